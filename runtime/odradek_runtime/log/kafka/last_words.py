"""What a producer's process writes to its standard output and error, as lines of its worker's log.

Stands beside the socket on which the process answers: what ends an interpreter, or a library says that knows of no log, comes
this way, and a worker whose log is JSON has no other lines.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from typing import IO

logger = logging.getLogger("odradek.kafka")

BYTES = 65_536
QUIET_MS = 100
"""What is written within such a while of each other is one record: a traceback, for example."""


def relay(stream: IO[bytes]) -> None:
    """Log in a thread of its own whatever comes, until the other end is closed."""
    threading.Thread(target=_relay, args=(stream,), name="odradek-last-words", daemon=True).start()


def _relay(stream: IO[bytes]) -> None:
    with stream:
        while said := _burst(stream.fileno()):
            if text := said.decode(errors="replace").strip():
                logger.warning("a producer's process says: %s", text)


def _burst(descriptor: int) -> bytes:
    """What is written without a pause; empty at the end."""
    said = os.read(descriptor, BYTES)
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while said and len(said) < BYTES and waiting.poll(QUIET_MS):
        more = os.read(descriptor, BYTES)
        if not more:
            break
        said += more
    return said
