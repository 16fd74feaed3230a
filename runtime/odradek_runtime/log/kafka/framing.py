"""Frames on a socket: eight bytes of length, then the message.

Stands between a worker and the processes of its producers. Nothing is kept here between two calls: a fork of the worker would send
its copy of it a second time.
"""

from __future__ import annotations

import socket

LENGTH_BYTES = 8
BUFFER_BYTES = 1024 * 1024


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends that take as much of an epoch at a time as the system allows: else they wake each other again and again."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends


def send_frame(link: socket.socket, frame: bytes) -> None:
    """Blocks until the other side has room. Raises OSError when it has gone."""
    link.sendall(len(frame).to_bytes(LENGTH_BYTES, "big"))
    link.sendall(frame)


def receive_frame(link: socket.socket) -> bytes:
    """Blocks for the next message. Raises EOFError or OSError when the other side has gone."""
    return _exactly(link, int.from_bytes(_exactly(link, LENGTH_BYTES), "big"))


def _exactly(link: socket.socket, size: int) -> bytes:
    read = link.recv(size, socket.MSG_WAITALL)
    while len(read) < size:  # a signal came in between
        more = link.recv(size - len(read), socket.MSG_WAITALL)
        if not more:
            raise EOFError
        read += more
    return read
