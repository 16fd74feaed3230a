"""Whether the log answers: asked once a second beside the engine, so that nobody has to wait for ever to find out.

What it finds is told by `/ready`, by a gauge, and by the ingress to every request that waits. The engine goes on trying meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from odradek_runtime.log.port import LogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from odradek_runtime.core.epoch import Epoch
    from odradek_runtime.worker.engine.flags import Flags
    from odradek_runtime.worker.restore.progress import Progress

ASK_S = 1.0
ANSWER_S = 2.5
"""How long one question may take. Two in a row without an answer mean that the log is away: after 7 s at most."""
SILENT_S = 5.0
COMMIT_S = 8.0
"""An epoch that has waited so long for its commit is not going to be answered soon, whatever else still works."""


RESTORE_S = 8.0
"""The same of a restore that the log does not bring any further."""


class Restoring(Protocol):
    """What is seen of the owned shards."""

    @property
    def restoring(self) -> Mapping[int, Progress]: ...


class Committing(Protocol):
    """What is seen of the engine."""

    flags: Flags

    @property
    def inflight(self) -> Epoch | None: ...


class Reachability:
    """A thread that asks until `stopping` is set. `ping` blocks for at most the seconds it is given, and raises LogError."""

    def __init__(self, ping: Callable[[float], None], engine: Committing, ownership: Restoring, stopping: threading.Event) -> None:
        self.trouble = ""
        """Why the log cannot be used now; empty while it answers."""
        self.stuck: dict[int, str] = {}
        """The shards that the log does not let be restored though it answers (a coordinator is away), and why."""
        self._ping = ping
        self._engine = engine
        self._ownership = ownership
        self._restores: dict[int, tuple[Progress, int, float]] = {}
        self._stopping = stopping
        self._answered_s = self._committing_s = self._taken_s = time.monotonic()
        self._failures = 0
        self._epoch = 0
        self._thread = threading.Thread(target=self._run, name="odradek-reachability", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.wait(ASK_S):
            self.trouble = self._unanswered() or self._uncommitted() or self._untaken()
            self.stuck = self._unrestored()

    def _unanswered(self) -> str:
        try:
            self._ping(ANSWER_S)
        except LogError as error:
            self._failures += 1
            silent_s = time.monotonic() - self._answered_s
            return str(error) if self._failures > 1 and silent_s > SILENT_S else ""
        self._failures = 0
        self._answered_s = time.monotonic()
        return ""

    def _uncommitted(self) -> str:
        """The log answers this question and not the commit: a coordinator is away."""
        inflight, now_s = self._engine.inflight, time.monotonic()
        number = inflight.number if inflight is not None else 0
        if number != self._epoch or inflight is None:
            self._epoch, self._committing_s = number, now_s
        waited_s = now_s - self._committing_s
        return f"a commit has waited {waited_s:.0f} s for Kafka's answer" if waited_s > COMMIT_S else ""

    def _untaken(self) -> str:
        """The log answers, and takes nothing: its disk is full."""
        why, now_s = self._engine.flags.refused, time.monotonic()
        if not why:
            self._taken_s = now_s
        refused_s = now_s - self._taken_s
        return f"the log has taken nothing for {refused_s:.0f} s: {why}" if refused_s > COMMIT_S else ""

    def _unrestored(self) -> dict[int, str]:
        now_s = time.monotonic()
        seen, self._restores = self._restores, {}
        stuck: dict[int, str] = {}
        for number, progress in self._ownership.restoring.items():
            before = seen.get(number)
            if before is None or before[0] is not progress or before[1] != progress.answers:
                before = (progress, progress.answers, now_s)
            self._restores[number] = before
            if now_s - before[2] > RESTORE_S:
                why = progress.trouble or "the log has brought it no further"
                stuck[number] = f"shard {number} has waited {now_s - before[2]:.0f} s to be restored: {why}"
        return stuck
