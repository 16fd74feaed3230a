"""Frames on a pipe: eight bytes of length, then the message.

Stands between a producer's process and the worker's.
"""

from __future__ import annotations

import fcntl
import io
from contextlib import suppress

LENGTH_BYTES = 8
PIPE_BYTES = 1024 * 1024


def widen(pipe: io.BufferedWriter) -> None:
    """Let it hold most of an epoch, where the system allows it: else both sides wake each other at every 64 KiB."""
    with suppress(AttributeError, OSError):  # no such thing outside Linux; too much for this user's pipes
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def write_frame(pipe: io.BufferedWriter, frame: bytes) -> None:
    """Blocks until the other side has room. Raises OSError when it has gone."""
    pipe.write(len(frame).to_bytes(LENGTH_BYTES, "big"))
    pipe.write(frame)
    pipe.flush()


def read_frame(pipe: io.BufferedReader) -> bytes:
    """Blocks for the next message. Raises EOFError when the other side has gone."""
    return _exactly(pipe, int.from_bytes(_exactly(pipe, LENGTH_BYTES), "big"))


def _exactly(pipe: io.BufferedReader, size: int) -> bytes:
    read = pipe.read(size)
    if len(read) < size:
        raise EOFError
    return read
