"""`worker.json` in a worker's data directory: how commands find the running worker, and may talk to its admin port.

Only the user who runs the worker can read it (mode 600): its token lets one write into the log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from odradek_runtime.store.data_folder import WORKER_FILE, make_private

if TYPE_CHECKING:
    from pathlib import Path


class ForeignFileError(Exception):
    """The file is another user's."""


class WorkerFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is written there."""

    name: str
    """The app's."""
    app: str
    """`module:app`, when a command started it; else empty."""
    pid: int
    url: str
    """The public port."""
    admin_url: str
    private_url: str
    """Empty where there are no other workers: on the embedded log."""
    token: str

    def write(self, data_dir: Path) -> Path:
        """Put it in place atomically; nobody sees half of it, and nobody else may read it."""
        make_private(data_dir)
        path = data_dir / WORKER_FILE
        temporary = data_dir / f".{WORKER_FILE}.{self.pid}"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        temporary.replace(path)
        return path

    def remove(self, data_dir: Path) -> None:
        """Remove it, unless another worker has written its own meanwhile."""
        written = _load(data_dir / WORKER_FILE)
        if written is not None and written.pid == self.pid:
            (data_dir / WORKER_FILE).unlink(missing_ok=True)


def read_worker_file(data_dir: Path) -> WorkerFile | None:
    """The one in a worker's data directory; None where no worker has written any."""
    return _load(data_dir / WORKER_FILE)


def read_own(path: Path) -> bytes:
    """What is in a file that is this user's or root's: another's would lead commands to a port of his.

    Raises OSError, ForeignFileError.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        owner = os.fstat(file.fileno()).st_uid
        if owner not in (os.geteuid(), 0):
            raise ForeignFileError(f"it belongs to user {owner}")
        return file.read()


def _load(path: Path) -> WorkerFile | None:
    try:
        return msgspec.json.decode(read_own(path), type=WorkerFile)
    except (FileNotFoundError, msgspec.MsgspecError, ForeignFileError):
        return None
