"""The fetcher: reads the partitions it is told to and posts batches, a few at a time, in a thread of its own or the taker's.

First station of every record. Its consumer is in no group: positions come from the engine, and no rebalance stops it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients, Options
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.confluent import Fetched
from odradek_runtime.log.kafka.errors import cause
from odradek_runtime.log.kafka.trouble import TroubleReporter, vital
from odradek_runtime.log.port import LogError, Partition, Records, Sink

BATCH = 2_000
"""At most: whatever is there is posted at once. Each fetch takes the interpreter's lock from the engine several times."""
OUTSTANDING = 3
SAMPLED = 8
"""Every so manieth record of a batch says how large records are."""
FETCHED_BYTES = 64 * 1024 * 1024
POLL_S = 0.02
"""How long an order may wait behind an empty fetch."""
METADATA_TIMEOUT_S = 5.0

FETCH_OPTIONS: Options = {
    "fetch.min.bytes": 1,
    "fetch.wait.max.ms": 100,  # a new position waits for the fetch in flight: this bounds it
    "fetch.queue.backoff.ms": 20,
    "fetch.error.backoff.ms": 100,
    "queued.min.messages": 100_000,
    "fetch.message.max.bytes": 4_194_304,
    "check.crcs": False,
    "enable.partition.eof": True,  # says how far a partition has been read where its last offsets hold no record
}


class Fetcher:
    """Reads for one member. Orders return at once and are carried out by the thread, in order.

    `fetched_bytes`: about so much may be fetched and not taken yet; half of it here, half in the client library.
    """

    def __init__(
        self,
        clients: Clients,
        cluster: Cluster,
        trouble: TroubleReporter,
        group: str,
        sink: Sink,
        fetched_bytes: int = FETCHED_BYTES,
    ) -> None:
        self._fetched_bytes = fetched_bytes
        self._usual_bytes = 1
        self._cluster = cluster
        self._trouble = trouble
        self._sink = sink
        queued = {"queued.max.messages.kbytes": max(fetched_bytes // 2048, 1)}  # as much as may be outstanding
        self._consumer = clients.consumer(group, {**FETCH_OPTIONS, **queued}, trouble.error)
        self._orders: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._reading: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._met: set[Partition] = set()
        self._generation = 0
        self._using = threading.Lock()
        """Held by whoever uses the consumer, until what it has read is posted: the order of a partition is that of the posts."""
        self._posted = 0
        self._taken = 0  # written by whoever takes batches
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="odradek-fetch", daemon=True)
        self._thread.start()

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        """Read these partitions from these offsets on."""
        wanted = dict(positions)
        self._order(lambda: self._read(wanted, generation))

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        """Read them no more."""
        gone = list(partitions)
        self._order(lambda: self._stop_reading(gone))

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Keep their positions, deliver nothing."""
        held = list(partitions)
        self._order(lambda: self._pause(held))

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on from their positions."""
        held = list(partitions)
        self._order(lambda: self._resume(held))

    def close(self, timeout_s: float) -> None:
        """End the thread; what is fetched and not posted is dropped."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._wake.set()

    def _run(self) -> None:
        with vital(self._trouble, "fetch"):
            while not self._closing:
                try:
                    self._turn()
                except KafkaException as error:
                    self._trouble.tell("fetch", f"reading from Kafka: {error.args[0]}")
                    self._wake.wait(0.5)
            with self._using:
                self._consumer.close()

    def _turn(self) -> None:
        self._wake.clear()
        with self._using:
            while self._orders:
                self._orders.popleft()()
            if self._posted - self._taken < OUTSTANDING and self._reading:
                first = self._consumer.poll(POLL_S)
                if first is not None:
                    self._fetch([first])
                return
        self._wake.wait(0.5)

    def _fetch(self, batch: list[Fetched]) -> None:
        """Post these and what else is there; these in any case, for the consumer is past them."""
        try:
            batch += self._consumer.consume(self._most() - 1, 0)
        finally:
            self._post(batch)

    def _post(self, batch: list[Fetched]) -> None:
        errors: list[Fetched] = []
        if _has_errors(batch):
            errors = [message for message in batch if message.error() is not None]
            batch = [message for message in batch if message.error() is None]
        if batch:
            self._post_records(batch)
        for message in errors:  # last: it may fail, and the records would be lost with it
            self._failed(message)

    def _reached(self, message: Fetched) -> None:
        """The end of a partition: markers and aborted records before it are passed, too."""
        partition = Partition(message.topic(), message.partition())
        self._sink(Records((), self._generation, _nothing, {partition: message.offset()}))

    def _most(self) -> int:
        """Records of the next batch: fewer where they are large, for several batches are outstanding at once."""
        return min(max(self._fetched_bytes // (2 * OUTSTANDING * self._usual_bytes), 2), BATCH)

    def _post_records(self, records: list[Fetched]) -> None:
        sample = records[::SAMPLED]
        usual_bytes = sum(len(message.value() or b"") for message in sample) // len(sample)
        self._usual_bytes = max(usual_bytes, self._usual_bytes // 2, 1)
        self._posted += 1
        self._sink(Records(records, self._generation, self._take))

    def _take(self) -> None:
        self._taken += 1
        if self._posted - self._taken == OUTSTANDING - 1 and not self._refill():  # the thread waits: so many were outstanding
            self._wake.set()

    def _refill(self) -> bool:
        """Fetch the next batch here, in the thread that took the last one, if it is there already and nothing else is to be done.

        To wake this file's thread for it would take the interpreter's lock from the engine twice, and each time the engine
        would wait for a core, too.
        """
        if not self._using.acquire(blocking=False):
            return False
        try:
            if self._orders or self._closing:
                return False
            batch = self._consumer.consume(self._most(), 0)
            if _has_errors(batch):  # what to do about them may take a while
                self._orders.append(lambda: self._post(batch))
                return False
            if batch:
                self._post_records(batch)
            return bool(batch)
        except KafkaException as error:
            self._trouble.tell("fetch", f"reading from Kafka: {error.args[0]}")
            return False
        finally:
            self._using.release()

    def _read(self, positions: dict[Partition, int], generation: int) -> None:
        self._generation = generation
        self._meet(positions.keys() - self._met)
        self._drop(positions)
        self._consumer.incremental_assign([TopicPartition(*p, offset) for p, offset in positions.items()])
        self._reading.update(positions)

    def _meet(self, partitions: set[Partition]) -> None:
        """Look at topics with partitions new to this consumer: by itself it would find them after a second, or minutes, only."""
        for topic in {partition.topic for partition in partitions}:
            try:
                self._consumer.list_topics(topic, METADATA_TIMEOUT_S)
            except KafkaException as error:
                self._trouble.error(cause(error), topic, "Describe")
        self._met |= partitions

    def _stop_reading(self, partitions: Sequence[Partition]) -> None:
        self._drop(partitions)

    def _drop(self, partitions: Mapping[Partition, int] | Sequence[Partition]) -> None:
        """Unassign what is assigned; a partition assigned anew is not paused."""
        known = [partition for partition in partitions if partition in self._reading]
        if known:
            self._resume(known)
            self._consumer.incremental_unassign([TopicPartition(*partition) for partition in known])
            self._reading.difference_update(known)

    def _pause(self, partitions: Sequence[Partition]) -> None:
        known = [p for p in partitions if p in self._reading and p not in self._paused]
        if known:
            self._consumer.pause([TopicPartition(*partition) for partition in known])
            self._paused.update(known)

    def _resume(self, partitions: Sequence[Partition]) -> None:
        known = [partition for partition in partitions if partition in self._paused]
        if known:
            self._consumer.resume([TopicPartition(*partition) for partition in known])
            self._paused.difference_update(known)

    def _failed(self, message: Fetched) -> None:
        error = message.error()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self._reached(message)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._out_of_range(Partition(message.topic(), message.partition()), message.offset())
        else:
            self._trouble.error(error, message.topic(), "Read")

    def _out_of_range(self, partition: Partition, wanted: int) -> None:
        """What should come next was deleted (or the topic made anew): say so, and go on with the first there is."""
        if partition not in self._reading:
            return
        try:
            first = self._cluster.offset(partition, "first")
        except LogError as error:
            self._trouble.tell("fetch", str(error))
            first = wanted
        name = f"{partition.topic}[{partition.partition}]"
        self._trouble.tell(
            f"range {name}",
            f"{name}: offset {wanted} is no longer there; reading goes on at {first}, the first that is. The records "
            "between were deleted by the topic's retention before they were read: raise retention.ms",
        )
        self._drop([partition])
        self._consumer.incremental_assign([TopicPartition(*partition, first)])
        self._reading.add(partition)


def _nothing() -> None:
    """Nobody waits for this batch to be taken."""


def _has_errors(batch: Sequence[Fetched]) -> bool:
    """By the class's own method: a `methodcaller` would take five times as long, a tenth of a microsecond a record."""
    return bool(batch) and any(map(type(batch[0]).error, batch))
