"""Runs workers for a test: publish, ask, wait for a condition, stop, crash, start again.

Stands where the node and the ingress stand in production. A `Rig` has one log and any number of workers after another,
or beside each other; it ends with everything stopped and no worker failed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from odradek import App
from odradek_runtime.clock import SYSTEM, Clock
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import INVOCATION, POSITIONS, Positions, Stored
from odradek_runtime.core.records.request import Attach, Invoke, Reply, Request
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Message, Output, Partition
from odradek_runtime.routing import fresh_id, request_id, workflow_id
from odradek_runtime.worker.worker import Worker
from tests.engine.faults import FaultyLog

PATIENCE_S = float(os.environ.get("ODRADEK_TEST_PATIENCE_S", "15"))


class TestClock:
    """The real clocks plus whatever the test has let pass, and what it has set the wall clock back or ahead by."""

    __test__ = False

    def __init__(self) -> None:
        self.passed_ms = 0.0
        self.set_ms = 0.0
        self.port = Clock(self, lambda: SYSTEM.steady_ms() + self.passed_ms)

    def __call__(self) -> float:
        """Unix milliseconds."""
        return SYSTEM.wall_ms() + self.passed_ms + self.set_ms


@dataclass
class Asked:
    """A request that was posted; `replies` has at most one if the engine keeps its word."""

    id: str
    replies: list[Reply] = field(default_factory=list[Reply])
    there: threading.Event = field(default_factory=threading.Event)
    request: Request | None = None

    def take(self, reply: Reply) -> None:
        self.replies.append(reply)
        self.there.set()

    def reply(self) -> Reply:
        assert self.there.wait(PATIENCE_S), f"no reply to {self.id} within {PATIENCE_S} s"
        return self.replies[0]

    def value(self) -> Any:
        """The result, decoded. Fails when there is none."""
        reply = self.reply()
        assert reply.status == "completed", reply
        return msgspec.json.decode(reply.value) if reply.value else None


class Rig:
    """A log and its workers."""

    def __init__(self, log: EmbeddedLog, directory: Path | None, cache: int) -> None:
        self.log = FaultyLog(log)
        self.directory = directory
        self.clock = TestClock()
        self.settings = Settings(
            coroutine_cache=cache, epoch_linger_s=0.005, data_dir=directory or Path("unused"), step_threads=8
        )
        self.workers: list[Worker] = []
        self.apps: list[App] = []

    # --- workers ---

    def start(self, app: App, **settings: Any) -> Worker:
        """Start a worker and wait until it serves."""
        worker = self.begin(app, **settings)
        self.until(lambda: worker.ready)
        return worker

    def begin(self, app: App, **settings: Any) -> Worker:
        worker = Worker(
            app, self.log, replace(self.settings, **settings), in_memory=self.directory is None, clock=self.clock.port
        )
        self.workers.append(worker)
        self.apps = [app, *(each for each in self.apps if each.name != app.name)]
        worker.start()
        return worker

    @property
    def worker(self) -> Worker:
        """The one started last."""
        return self.workers[-1]

    def stop(self) -> None:
        """The clean way: finish the epoch, hand over, leave."""
        worker = self.workers.pop()
        worker.stop()
        assert worker.failed is None, worker.failed

    def crash(self) -> None:
        """As SIGKILL: what is not committed is lost, what is in memory too."""
        worker = self.workers.pop()
        self.log.members.pop().die()
        worker.stop()

    def restart(self, app: App, *, crash: bool = False, **settings: Any) -> Worker:
        if crash:
            self.crash()
        else:
            self.stop()
        return self.start(app, **settings)

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        failed = [worker.failed for worker in self.workers if worker.failed is not None]
        self.log.close()
        assert failed == []

    def later(self, seconds: float) -> None:
        """Let time pass at once, and have the engines look at the clock."""
        self.clock.passed_ms += seconds * 1000
        self._wake()

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock back (negative) or ahead; the engines look at it."""
        self.clock.set_ms += seconds * 1000
        self._wake()

    def _wake(self) -> None:
        for worker in self.workers:
            worker.ask(Attach(fresh_id(None, os.urandom(12)), wait=False), lambda _: None)

    # --- conditions ---

    def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait until it holds; fails at once when a worker has failed."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for worker in self.workers:
                assert worker.failed is None, worker.failed
            assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
            time.sleep(0.003)

    def until_failed(self, worker: Worker) -> Exception:
        """Wait until a worker has given up, and give the reason."""
        deadline = time.monotonic() + PATIENCE_S
        while worker.failed is None:
            assert time.monotonic() < deadline, "it has not failed"
            time.sleep(0.003)
        return worker.failed

    def settled(self, app: App) -> None:
        """Wait until every record and command there is has been processed and committed."""
        self.until(lambda: self._lag(app) == 0)

    def _lag(self, app: App) -> int:
        done: dict[Partition, int] = {}
        for number in range(self.partitions(f"{app.name}.commands")):
            found = self.positions(app, number)
            for place in found.inputs if found is not None else ():
                done[Partition(place.topic, place.partition)] = place.offset
        read = {subscription.topic.name for subscription in app.subscriptions()} | {f"{app.name}.commands"}
        lag = 0
        for topic in read:
            for number in range(self.partitions(topic)):
                partition = Partition(topic, number)
                first, end = self.log.offsets(partition)
                lag += end - done.get(partition, first)
        return lag

    # --- what goes in ---

    def publish(self, topic: str, *records: tuple[str | bytes | None, Any], partition: int | None = None) -> None:
        """Write (key, value) records; values that are not bytes or None go as JSON."""
        outputs = [Output(topic, partition, _bytes(key), _value(value)) for key, value in records]
        publisher = self.log.publisher(f"test-{os.urandom(4).hex()}")
        publisher.publish(outputs, 1)
        publisher.close()

    def post(self, request: Request) -> Asked:
        asked = Asked(request.invocation_id, request=request)
        self.worker.ask(request, asked.take)
        return asked

    def post_again(self, asked: Asked) -> Asked:
        """The same request once more, as a client that got no answer would."""
        assert asked.request is not None
        return self.post(asked.request)

    def ask(
        self,
        target: str,
        argument: Any = None,
        *,
        key: str = "",
        wait: bool = True,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        after_s: float = 0,
    ) -> Asked:
        """Post a request as the ingress would; gives what to wait on."""
        raw = key.encode()
        idempotent = idempotency_key is not None
        service = target.partition("/")[0]
        handler = next((app.handlers()[target] for app in self.apps if target in app.handlers()), None)
        id_ = (
            workflow_id(service, raw)
            if handler is not None and handler.mode == "run"
            else request_id(target, raw, idempotency_key)
            if idempotency_key is not None
            else fresh_id(raw or None, os.urandom(12), hash_=os.urandom(1)[0])
        )
        payload = b"" if argument is None else _value(argument) or b""
        at_ms = int(self.clock() + after_s * 1000) if after_s else 0
        return self.post(Invoke(id_, target, raw, payload, headers or {}, wait, idempotent, at_ms))

    def call(self, target: str, argument: Any = None, *, key: str = "") -> Any:
        """Ask, and give the result."""
        return self.ask(target, argument, key=key).value()

    def attach(self, id_: str, *, wait: bool = True) -> Asked:
        return self.post(Attach(id_, wait))

    # --- what is there ---

    def partitions(self, topic: str) -> int:
        info = self.log.topic(topic)
        return info.partitions if info is not None else 0

    def records(self, topic: str) -> list[Message]:
        """Everything committed in a topic, partition by partition."""
        return [message for number in range(self.partitions(topic)) for message in self.partition(topic, number)]

    def partition(self, topic: str, number: int) -> Iterator[Message]:
        partition = Partition(topic, number)
        for batch in self.log.inner.scan(partition, *self.log.offsets(partition)):
            yield from batch

    def values(self, topic: str) -> list[Any]:
        """The records' values, decoded from JSON."""
        return [msgspec.json.decode(message.value() or b"null") for message in self.records(topic)]

    def changelog(self, topic: str, number: int | None = None) -> dict[bytes, bytes]:
        """The last value of every key of a compacted topic (or of one partition of it)."""
        found: dict[bytes, bytes] = {}
        messages = self.records(topic) if number is None else self.partition(topic, number)
        for message in messages:
            value, key = message.value(), message.key() or b""
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        return found

    def state(self, app: App, object_: str, key: str, name: str) -> Any:
        """One state value, decoded, from the app's state topic; None when there is none."""
        path = b"/".join(keys.escape(part.encode()) for part in (object_, key, name))
        raw = self.changelog(f"{app.name}.state").get(path)
        return None if raw is None else msgspec.json.decode(raw)

    def journal(self, app: App) -> dict[bytes, bytes]:
        """What the app's journal topic holds, without the positions."""
        found = self.changelog(f"{app.name}.journal")
        return {key: value for key, value in found.items() if key != keys.POSITIONS}

    def invocations(self, app: App) -> list[Stored]:
        return [INVOCATION.decode(value) for key, value in self.journal(app).items() if key[:1] == b"i"]

    def paused(self, app: App) -> list[Stored]:
        return [invocation for invocation in self.invocations(app) if invocation.status == "paused"]

    def positions(self, app: App, shard: int) -> Positions | None:
        raw = self.changelog(f"{app.name}.journal", shard).get(keys.POSITIONS)
        return None if raw is None else POSITIONS.decode(raw)

    def dead_letters(self, app: App, topic: str | None = None) -> list[dict[str, str]]:
        """The headers of every dead letter, as text, with its key and value beside them."""
        found: list[dict[str, str]] = []
        for message in self.records(topic or f"{app.name}.dead-letters"):
            told = {name: (text or b"").decode() for name, text in message.headers() or ()}
            told["key"] = (message.key() or b"").decode("utf-8", "replace")
            told["value"] = (message.value() or b"").decode("utf-8", "replace")
            found.append(told)
        return found


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _value(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) or value is None else msgspec.json.encode(value)
