"""Tells dev that a source file of the app has changed. Polling: no dependency, and it works on every file system.

What belongs to an app is what it imports, wherever that lies: its worker reports the files (`SourceReport`), its supervisor
reads them (`SourceReader`) and watches them beside the folder of the app itself (`SourceWatch`).
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

SKIPPED = {"__pycache__", "node_modules", "site-packages", "venv"}
INTERVAL_S = 0.5


class SourceWatch:
    """Looks at the .py files below some folders, and at files that are added, at most every `INTERVAL_S`.

    >>> watch = SourceWatch([Path("shop")])
    >>> watch.changed() is None
    True
    """

    def __init__(self, folders: Iterable[Path], *, interval_s: float = INTERVAL_S) -> None:
        self._folders = list(folders)
        self._files: set[Path] = set()
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

    def add(self, files: Iterable[Path]) -> None:
        """Watch these, too, from what they are now."""
        new = [path for path in files if path not in self._files and path not in self._seen]
        self._files.update(new)
        self._seen.update(_written(new))

    def _look(self) -> dict[Path, int]:
        return _written({*(path for folder in self._folders for path in _sources(folder)), *self._files})


def _written(paths: Iterable[Path]) -> dict[Path, int]:
    """When each was written."""
    written: dict[Path, int] = {}
    for path in paths:
        # An editor may be replacing the file right now: the next look sees the new one.
        with suppress(FileNotFoundError):
            written[path] = path.stat().st_mtime_ns
    return written


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


class SourceReport:
    """The worker's end: tells which files of the user's it has imported, each once. `descriptor` -1: nobody wants to know."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._told: set[str] = set()
        self._modules = 0

    def tell(self, error: BaseException | None = None) -> None:
        """What has been imported since; after an `error`, also the files that led to it."""
        if self._descriptor < 0 or (error is None and len(sys.modules) == self._modules):
            return
        self._modules = len(sys.modules)
        loaded = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
        new = sorted(file for file in (loaded | set(_files_of(error))) - self._told if _of_the_user(file))
        self._told.update(new)
        with suppress(BrokenPipeError):
            for file in new:
                os.write(self._descriptor, json.dumps(str(Path(file).absolute())).encode() + b"\n")


class SourceReader:
    """The supervisor's end of a worker's report."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""

    def files(self) -> list[Path]:
        """What has been reported since the last call."""
        with suppress(BlockingIOError):
            while part := os.read(self._descriptor, 65536):
                self._rest += part
        *lines, self._rest = self._rest.split(b"\n")
        return [Path(json.loads(line)) for line in lines]

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._descriptor)


def _files_of(error: BaseException | None) -> Iterator[str]:
    """The files that an error comes from, and those that what caused it comes from."""
    while error is not None:
        yield from (frame.filename for frame in traceback.extract_tb(error.__traceback__))
        if isinstance(error, SyntaxError) and error.filename:
            yield error.filename
        error = error.__cause__ or error.__context__


def _of_the_user(file: str) -> bool:
    """Whether somebody edits it while dev runs: not what Python or an installed package brought."""
    path = Path(file)
    installed = SKIPPED & set(path.parts) or "dist-packages" in path.parts or path.is_relative_to(Path(os.__file__).parent)
    return path.suffix == ".py" and not installed
