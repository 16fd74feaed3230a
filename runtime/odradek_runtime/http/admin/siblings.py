"""The other workers of this node, for a scrape of their common port: found by their files, asked at their private ports.

The kernel gives a connection to any of the workers that share the port. So whichever gets a scrape answers for all of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from odradek_runtime.configuration.worker_file import read_worker_file

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from odradek_runtime.http.admin.peer import PrivatePort

METRICS_PATH = "/odradek/private/metrics"
READY_PATH = "/odradek/private/ready"
ANSWER_S = 2.0
"""A sibling that says nothing for so long counts as down: Prometheus itself waits for 10 s."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the node's workers this is."""

    index: int = 0
    workers: int = 1


class Siblings:
    """Asks each of the node's other workers. `data_dir` is this worker's, beside theirs (`worker-0`, `worker-1` …)."""

    def __init__(self, place: Place, data_dir: Path, private: PrivatePort) -> None:
        self._private = private
        self.place = place
        self._data_dir = data_dir

    def tokens(self) -> list[str]:
        """Of the others' files: who asks at the common port has read one of them, and does not know which worker answers."""
        files = [read_worker_file(self._folder(index)) for index in self._others]
        return [file.token for file in files if file is not None]

    async def ask(self, path: str) -> dict[int, httpx.Response | None]:
        """By index of the worker, what it answers; None for one that is not there."""
        answers = await asyncio.gather(*(self._ask(index, path) for index in self._others))
        return dict(zip(self._others, answers, strict=True))

    @property
    def _others(self) -> list[int]:
        return [index for index in range(self.place.workers) if index != self.place.index]

    def _folder(self, index: int) -> Path:
        return self._data_dir.parent / f"worker-{index}"

    async def _ask(self, index: int, path: str) -> httpx.Response | None:
        file = read_worker_file(self._folder(index))
        if file is None or not file.private_url:
            return None
        return await self._private.ask(file.private_url, path, timeout_s=ANSWER_S)
