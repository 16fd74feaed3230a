"""The membership thread: this worker's place in the group, and nothing else.

Stands before every shard: it is told which shards are ours, stamps them, and lets none go before the engine has let
go. Its consumer subscribes to the commands topic alone and fetches nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.confluent import ConsumerClient, GroupMetadata
from odradek_runtime.log.kafka.errors import cause
from odradek_runtime.log.kafka.trouble import TroubleReporter, vital
from odradek_runtime.log.port import Gained, Losing, Sink
from odradek_runtime.log.stamps import Stamps

TURN_S = 0.01
"""Between two looks at the consumer while the group moves: short, because a rebalance goes on only there."""
QUIET_TURN_S = 0.1
"""The same when it has not moved for a while: each look takes the interpreter's lock from the engine twice."""
LIVELY_S = 5.0
"""So long after its last step a rebalance may go on."""

Busy = Callable[[Sequence[int]], bool]
"""Whether a transaction that touches one of these shards is being sent at this moment."""

LONGEST_SILENCE_S = 60.0
"""A member whose membership thread has not run for so long is put out of the group."""


@dataclass(frozen=True, slots=True)
class MembershipOptions:
    """How to be a member."""

    protocol: str
    session_timeout_s: float
    instance_id: str
    release_timeout_s: float
    drain_timeout_s: float

    def as_kafka(self, client_id: str) -> dict[str, str | int | float | bool]:
        """As options of librdkafka."""
        options: dict[str, str | int | float | bool] = {
            "client.id": client_id,
            "max.poll.interval.ms": int(max(LONGEST_SILENCE_S, self.session_timeout_s) * 1000),
            "fetch.wait.max.ms": 500,
            "queued.min.messages": 1,
        }
        if self.instance_id:
            options["group.instance.id"] = self.instance_id
        if self.protocol == "consumer":
            return {**options, "group.protocol": "consumer"}
        return {
            **options,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(self.session_timeout_s * 1000),
            "heartbeat.interval.ms": max(int(self.session_timeout_s * 1000 / 6), 100),
        }


class Membership:
    """A membership in one group, from its construction to `leave`.

    The consumer belongs to whoever holds the lock; in a rebalance callback that is the membership thread, which then
    answers requests for the group's metadata itself: asked from another thread, the consumer would block it.
    """

    def __init__(
        self,
        clients: Clients,
        trouble: TroubleReporter,
        stamps: Stamps,
        app: str,
        client_id: str,
        options: MembershipOptions,
        sink: Sink,
        busy: Busy,
    ) -> None:
        self._trouble = trouble
        self._stamps = stamps
        self._busy = busy
        self._sink = sink
        self._options = options
        self._consumer = clients.consumer(app, options.as_kafka(client_id), trouble.group_error)
        self._topic = f"{app}.commands"
        self._lock = threading.Lock()
        self._requests: deque[Future[GroupMetadata]] = deque()
        self._wake = threading.Event()
        self._leaving = False
        self._moved_s = time.monotonic()
        self.assigned = False
        """Whether the group has ever given us anything; before that no transaction may be sent."""
        self.member_id = ""
        self._thread = threading.Thread(target=self._run, name="odradek-membership", daemon=True)
        self._thread.start()

    def metadata(self, timeout_s: float) -> GroupMetadata:
        """The group's metadata as of now, from any thread.

        Raises:
            TimeoutError: the membership thread did not answer.
        """
        if self._lock.acquire(blocking=False):
            try:
                return self._consumer.consumer_group_metadata()
            finally:
                self._lock.release()
        request: Future[GroupMetadata] = Future()
        self._requests.append(request)
        self._wake.set()
        return request.result(timeout_s)

    def leave(self, timeout_s: float) -> bool:
        """Leave the group at once and end the thread; False if that took longer than the time given."""
        self._leaving = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with vital(self._trouble, "membership"):
            with self._lock:
                self._consumer.subscribe([self._topic], on_assign=self._gained, on_revoke=self._revoked, on_lost=self._lost)
            while not self._leaving:
                self._turn()
            with self._lock:
                self._consumer.close()  # nobody is asked for a release: the engine has released everything

    def _turn(self) -> None:
        with self._lock:
            try:
                event = self._consumer.poll(0)
            except KafkaException as error:
                self._trouble.group_error(cause(error))
                event = None
        if event is not None and (failure := event.error()) is not None:
            self._trouble.group_error(failure)
        self._answer()
        lively = time.monotonic() - self._moved_s < LIVELY_S
        self._wake.wait(TURN_S if lively else QUIET_TURN_S)
        self._wake.clear()

    def _answer(self) -> None:
        """Serve the requests for metadata; runs in this thread alone."""
        while self._requests:
            request = self._requests.popleft()
            if request.set_running_or_notify_cancel():
                request.set_result(self._consumer.consumer_group_metadata())

    def _gained(self, consumer: ConsumerClient, partitions: list[TopicPartition]) -> None:
        self._moved_s = time.monotonic()
        if not partitions:
            self._sink(Gained({}))
            return
        # An explicit offset, or the consumer would wait for the stable committed one; nothing is fetched, being paused.
        consumer.incremental_assign([TopicPartition(tp.topic, tp.partition, 0) for tp in partitions])
        consumer.pause(partitions)
        self.assigned = True
        self.member_id = consumer.memberid()
        self._sink(Gained(self._stamps.gain(sorted(tp.partition for tp in partitions))))

    def _revoked(self, consumer: ConsumerClient, partitions: list[TopicPartition]) -> None:
        shards = tuple(sorted(tp.partition for tp in partitions))
        if shards and not self._leaving:
            self._let_go(shards, lost=False)
        self._stamps.bump(shards)
        if shards:
            self._drain(shards)
            consumer.incremental_unassign(partitions)
        self._moved_s = time.monotonic()

    def _lost(self, consumer: ConsumerClient, partitions: list[TopicPartition]) -> None:
        shards = tuple(sorted(tp.partition for tp in partitions))
        self._stamps.bump(shards)
        if shards and not self._leaving:
            self._let_go(shards, lost=True)
        if shards:
            self._drain(shards)
            consumer.incremental_unassign(partitions)
        self._moved_s = time.monotonic()

    def _let_go(self, shards: tuple[int, ...], *, lost: bool) -> None:
        """Hold the rebalance until the engine releases the shards, or the deadline."""
        released = threading.Event()

        def release() -> None:
            released.set()
            self._wake.set()

        self._sink(Losing(shards, lost, release))
        deadline = time.monotonic() + self._options.release_timeout_s
        while not released.is_set() and not self._leaving:
            self._answer()
            left = deadline - time.monotonic()
            if left <= 0:
                self._trouble.tell(
                    "release",
                    f"shards {list(shards)} were not released within {self._options.release_timeout_s:g} s: the epochs "
                    "in flight that touch them are dropped",
                )
                return
            self._wake.wait(min(left, TURN_S))
            self._wake.clear()

    def _drain(self, shards: tuple[int, ...]) -> None:
        """Hold the rebalance while a transaction that began before the stamps were bumped is on its way."""
        deadline = time.monotonic() + self._options.drain_timeout_s
        while self._busy(shards) and time.monotonic() < deadline:
            self._answer()
            self._wake.wait(TURN_S)
            self._wake.clear()
