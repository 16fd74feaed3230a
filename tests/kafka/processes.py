"""The producers' processes of a worker, and what the kernel says of them."""

import os
import signal
from pathlib import Path

from odradek_runtime.log.kafka.remote_producer import PROGRAM
from tests.kafka.raw import eventually

THREADS = 17
"""Which of a process' fields says how many threads it has."""


def fields_of(process: int) -> list[str]:
    """State, parent and so on, as the kernel says; nothing for a process that does not exist."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(process: int) -> bool:
    """Whether a process exists and is not merely waiting for its status to be taken.

    Its first thread may have gone before others, which hold its files open until they have gone, too.
    """
    fields = fields_of(process)
    return fields[:1] not in ([], ["Z"]) or int(fields[THREADS] if fields else 0) > 1


def producers_of(worker: int) -> list[int]:
    """The producers' processes of a worker that are alive, in the order in which they were made."""
    every = sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))
    children = [process for process in every if alive(process) and fields_of(process)[1:2] == [str(worker)]]
    return [child for child in children if PROGRAM[-1].encode() in Path(f"/proc/{child}/cmdline").read_bytes()]


def suspend(process: int) -> None:
    """SIGSTOP: the process does nothing more from when this returns. The signal alone reaches its threads a moment later."""
    os.kill(process, signal.SIGSTOP)
    threads = Path(f"/proc/{process}/task")
    eventually(lambda: all(path.read_text().rpartition(")")[2].split()[0] in "Tt" for path in threads.glob("*/stat")))
