"""Listening sockets: bound before anything else starts, so that a port in use is said at once and in words."""

from __future__ import annotations

import errno
import os
import socket


class PortError(OSError):
    """A port cannot be had; the message names it and says what to do."""


def listen(host: str, port: int, *, what: str, shared: bool = False) -> socket.socket:
    """A bound TCP socket; port 0 picks a free one. `shared`: other workers of this node may bind the same port.

    Raises PortError when the address is in use, not ours, or forbidden.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle off (40 ms a reply otherwise) only where it is.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise PortError(f"{what} {host}:{port}: {_reason(error)}") from error
    return sock


def port_of(sock: socket.socket) -> int:
    """The port a socket is bound to."""
    return int(sock.getsockname()[1])


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; choose another (--port, --admin-port) or stop who listens there"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EACCES:
        return "not permitted; ports below 1024 need privileges"
    return os.strerror(error.errno or 0)
