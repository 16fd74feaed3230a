"""Ports on loopback that no parallel run takes: each is leased by a lock file for as long as its holder lives.

Before any record: listeners need addresses that stay theirs through a broker's death and restart.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import TextIO

# Below the range that systems take outgoing connections' ports from: a dead broker's port stays free for its restart.
PORT_RANGE = range(20000, 30000)


class PortLease:
    """One port of 127.0.0.1 that nobody listened on when it was taken, and that no other lease can hold."""

    def __init__(self, port: int, lock: TextIO) -> None:
        self.port = port
        self._lock = lock

    @classmethod
    def take(cls, preferred: int | None = None) -> "PortLease":
        """Lease a port: the preferred one, if nobody has it.

        Raises:
            RuntimeError: a thousand tries found none free.
        """
        locks = Path(tempfile.gettempdir()) / f"odradek-ports-{os.getuid()}"
        locks.mkdir(exist_ok=True)
        choices = random.SystemRandom()  # a seeded one would lead parallel runs along the same ports
        for attempt in range(1000):
            port = preferred if preferred is not None and attempt == 0 else choices.choice(PORT_RANGE)
            lock = (locks / str(port)).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                lock.close()
                continue
            return cls(port, lock)
        raise RuntimeError(f"no free port in {PORT_RANGE} after 1000 tries: are there brokers left running?")

    def release(self) -> None:
        """Give the port back; harmless when repeated."""
        self._lock.close()
