"""The audit of replays: one line in a worker's log when a replay is over as a whole, with what has come of it.

No shard knows the whole: what a part has started may end in any of them. So the worker that has the shard of the replay's first
partition asks all, as `GET /replays` does, once its own parts have ended. Stands beside `replays`, whose answers it reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from odradek_runtime.core.records.formats import REPLAY, Replay
from odradek_runtime.recovery.replay_report import ReplayReport, summed_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from odradek_runtime.http.admin import wire
    from odradek_runtime.http.ingress.port import Answering

logger = logging.getLogger("odradek")

LOOK_S = 1.0
"""Between two looks at the parts that are here."""
PATIENCE_S = 60.0
"""Between two questions to others, at most: what a replay has started may wait for weeks."""
REMEMBERED = 10_000
LONG_AGO_MS = 10_000
"""What had ended so long before its shard came here was told by the worker that had it."""


class ReplayAudit:
    """Of one worker. `known`: what all workers know together."""

    def __init__(self, worker: Answering, known: Callable[[], Awaitable[wire.Replays]]) -> None:
        self._worker = worker
        self._known = known
        self._shards = set[int]()
        self._untold: dict[str, bool] = {}
        """Replays with a part here that are not known to be over; True: it came with its shard, and may have been told of there."""
        self._told: dict[str, None] = {}
        self._ask_at_s = 0.0
        self._pause_s = LOOK_S
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look from now on, until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # the next look may fare better, and nothing depends on this one
                logger.debug("the audit of replays could not look", exc_info=True)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Tell of what has ended since the last look."""
        rows = self._worker.replay_rows()
        parts = [(number, part) for number, own in rows.items() for part in _parts(own)]
        here = {part.id for _, part in parts}
        fresh = {part.id: number not in self._shards for number, part in parts if part.id not in {**self._untold, **self._told}}
        self._shards = set(rows)
        self._untold = {id_: came for id_, came in {**self._untold, **fresh}.items() if id_ in here}
        running = {part.id for _, part in parts if part.status == "running"}
        if fresh:
            self._pause_s = self._ask_at_s = 0.0
        if not self._untold.keys() - running or time.monotonic() < self._ask_at_s:
            return
        self._pause_s = min(max(self._pause_s * 2, LOOK_S), PATIENCE_S)
        self._ask_at_s = time.monotonic() + self._pause_s
        told = await self._known()
        if told.unknown_shards:
            return
        for report in told.replays:
            if report.id in self._untold and report.over:
                self._end(report, came=self._untold.pop(report.id))
            elif report.id in self._untold:
                self._untold[report.id] = False

    def _end(self, report: ReplayReport, *, came: bool) -> None:
        self._told[report.id] = None
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        first = report.parts[0].partition
        long_ago = came and time.time() * 1000 - report.ended_ms > LONG_AGO_MS
        if long_ago or first % self._worker.shards not in self._shards:
            return
        logger.info(
            "replay %s of %s is over, %s: %s; asked for by %s",
            report.id, report.topic, report.status, ", ".join(summed_up(report)), report.asked_by or "nobody that is known",
        )  # fmt: skip


def _parts(rows: dict[bytes, bytes]) -> Iterator[Replay]:
    return (REPLAY.decode(value) for key, value in rows.items() if key[:1] == b"r")
