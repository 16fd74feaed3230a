"""Housekeeping beside the engine: commands that are done are deleted, quiet stores flushed, lag measured, inputs watched.

None of it may delay the engine, so it runs in a thread of its own and reads what the engine has already committed.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from odradek_runtime.log.port import Log, LogError, Partition
from odradek_runtime.store.store import StoreError
from odradek_runtime.worker.restore.internal import Internal

from .lag import Lag

if TYPE_CHECKING:
    from odradek_runtime.worker.engine.engine import Engine

logger = logging.getLogger("odradek")

TURN_S = 5.0
FLUSH_S = 60.0
TOLD = 100


class Housekeeping:
    """A thread that does its round every few seconds until `stopping` is set."""

    def __init__(
        self,
        log: Log,
        engine: Engine,
        stopping: threading.Event,
        internal: Internal | None = None,
        topics_watch_s: float = TURN_S,
    ) -> None:
        self.lag = Lag(log, engine, self._tell)
        self._log = log
        self._engine = engine
        self._stopping = stopping
        self._internal = internal or Internal("", {})
        self._amiss = ""
        self._topics_watch_s = topics_watch_s
        self._trimmed: dict[Partition, int] = {}
        self._told: set[str] = set()
        self._flushed_s = self._watched_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="odradek-housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.wait(min(TURN_S, self._topics_watch_s)):
            self.round()

    def round(self) -> None:
        """Each task once; one that fails does not keep the others from their work."""
        for task in (self._trim, self.lag.measure, self._flush, self._watch_topics):
            try:
                task()
            except (LogError, StoreError) as error:
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Each failure is a warning once: nothing here is urgent, and all of it is tried again."""
        refusal = error.refusal if isinstance(error, LogError) else None
        if refusal is not None:
            machine = self._engine.machine
            machine.targets.unavailable.refusals.note(refusal, machine.steady_ms)
            return
        text = str(error)
        logger.log(logging.DEBUG if text in self._told else logging.WARNING, "housekeeping: %s", text)
        if len(self._told) >= TOLD:
            self._told.clear()
        self._told.add(text)

    def _trim(self) -> None:
        """Commands below a committed position are done with (invariant 11)."""
        for partition, position in self._engine.committed_commands().items():
            if position - self._trimmed.get(partition, 0) > 0:
                self._log.trim(partition, position)
                self._trimmed[partition] = position

    def _flush(self) -> None:
        """A crash costs the delta since the last flush, so quiet stores are flushed by time (invariant 3)."""
        if time.monotonic() - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = time.monotonic()
        for shard in list(self._engine.machine.shards.values()):
            try:
                shard.store.flush()
            except StoreError as error:  # the others must not wait for its disk
                self._tell(error)
                shard.store_error = shard.store_error or error

    def _watch_topics(self) -> None:
        if time.monotonic() - self._watched_s >= self._topics_watch_s * 0.9:  # its turns are not exact
            self._watched_s = time.monotonic()
            self._look_at_internal()
            self.look_at_inputs()

    def _look_at_internal(self) -> None:
        """An internal topic that is gone, or another than it was, ends this worker: to go on would lose what it held."""
        amiss = self._internal.amiss(self._log)
        if amiss and amiss == self._amiss:  # seen twice: a broker that has just started may not know of a topic yet
            self._engine.flags.fatal = amiss
        self._amiss = amiss

    def look_at_inputs(self) -> None:
        """Where an input is not what it was at the take-over, shards are restored again: that sees to it. Raises LogError."""
        new, anew = self.changed()
        if new:
            named = ", ".join(f"{topic}[{number}]" for topic, number in new)
            logger.info("partitions have been added: %s; starting over to read them", named)
            self._engine.flags.start_over = "partitions have been added"
        if anew:
            logger.error("topics were deleted and made again: %s; starting over to read them from their beginning", ", ".join(anew))
            self._engine.flags.start_over = "topics were made again"

    def changed(self) -> tuple[list[Partition], list[str]]:
        """Partitions of inputs that belong to shards here and are not read; inputs that are other topics now. Raises LogError."""
        machine = self._engine.machine
        new: list[Partition] = []
        anew: list[str] = []
        for name in machine.subscriptions:
            topic = self._log.topic(name)
            if topic is None:
                continue
            shards = list(machine.shards.items())
            for number, shard in shards:
                all_ = [Partition(name, partition) for partition in range(number, topic.partitions, machine.n)]
                new.extend(partition for partition in all_ if partition not in shard.positions)
            if any(shard.topic_ids.get(name, "") not in ("", topic.id) for _, shard in shards):
                anew.append(name)
        return new, anew
