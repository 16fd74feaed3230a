"""Tells dev that a source file of the app has changed. Polling: no dependency, and it works on every file system."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

SKIPPED = {"__pycache__", "node_modules", "site-packages", "venv"}
INTERVAL_S = 0.5


class SourceWatch:
    """Looks at the .py files below some folders, at most every `INTERVAL_S`.

    >>> watch = SourceWatch([Path("shop")])
    >>> watch.changed() is None
    True
    """

    def __init__(self, folders: Iterable[Path], *, interval_s: float = INTERVAL_S) -> None:
        self._folders = list(folders)
        self._interval_s = interval_s
        self._seen = self._look()
        self._next_s = time.monotonic() + interval_s

    def changed(self) -> Path | None:
        """One file that was written, made or removed since the last call that said so; None when there is none."""
        if time.monotonic() < self._next_s:
            return None
        before, self._seen = self._seen, self._look()
        self._next_s = time.monotonic() + self._interval_s
        differing = before.items() ^ self._seen.items()
        return min((path for path, _ in differing), default=None)

    def _look(self) -> dict[Path, int]:
        seen: dict[Path, int] = {}
        for folder in self._folders:
            for path in _sources(folder):
                try:
                    seen[path] = path.stat().st_mtime_ns
                except FileNotFoundError:
                    # An editor replaces the file right now: the next look sees the new one.
                    continue
        return seen


def _sources(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.suffix == ".py":
            yield entry
        elif entry.is_dir() and entry.name not in SKIPPED and not entry.name.startswith("."):
            yield from _sources(entry)
