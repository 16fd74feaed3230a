"""Processes as the system shows them: their memory, their descendants, the ports at which they listen."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LISTENING = "0A"


def resident_bytes(pid: int, what: str = "VmRSS") -> int:
    """Of a process without its children: VmRSS now, VmHWM at the most so far. Raises ProcessLookupError when it has ended."""
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(int(child) for child in children.read_text().split())
    return found


def listening(pids: Iterable[int | str]) -> set[int]:
    """The TCP ports at which these processes listen; "self" is this one."""
    own = set[str]()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                own.add(str(descriptor.readlink()))
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in own}
