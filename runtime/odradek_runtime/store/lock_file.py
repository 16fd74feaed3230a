"""Lock files: taken without following or changing what lies there, and held by whom the kernel says, not by what they contain.

Stands below the embedded log and the stores, whose folders are one process's at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

PROC = Path("/proc")
SHOWN = 200
"""So much of a process's command line is shown."""


class LockFileError(Exception):
    """The lock file cannot be used; the message says why, and the way out."""


class Held(Exception):
    """Somebody else has the lock; the text says who."""


def take(path: Path) -> int:
    """The descriptor of a lock that goes with this process. Raises Held, LockFileError. Nothing is ever written to the file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EMLINK)
        why = "it is a symbolic link: remove it" if link else error.strerror or str(error)
        raise LockFileError(f"the lock file {path} cannot be opened: {why}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LockFileError(f"the lock file {path} is no file: remove it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Held(holder(path)) from None
    return descriptor


def holder(path: Path) -> str:
    """The process that has a lock on a file, as people find it; "another process" where the system does not tell."""
    try:
        found = path.lstat()
        processes = sorted(int(one.name) for one in PROC.iterdir() if one.name.isdecimal())
    except OSError:
        return "another process"
    holding = [process for process in processes if _holds(process, (found.st_dev, found.st_ino))]
    return f"process {holding[0]} ({_command_line(holding[0])})" if holding else "another process"


def _holds(process: int, file: tuple[int, int]) -> bool:
    """Whether one of its open files is this one and has a lock: a process that was forked holds its parent's, too."""
    folder = PROC / str(process)
    try:
        descriptors = list((folder / "fd").iterdir())
    except OSError:  # it has ended, or is somebody else's
        return False
    for descriptor in descriptors:
        try:
            there = descriptor.stat()
            if (there.st_dev, there.st_ino) == file and "lock:" in (folder / "fdinfo" / descriptor.name).read_text():
                return True
        except OSError:
            continue
    return False


def _command_line(process: int) -> str:
    try:
        raw = (PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return "?"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:SHOWN] or "?"
