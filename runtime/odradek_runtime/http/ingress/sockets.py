"""Listening sockets: bound before anything else starts, so that a port in use is said at once and in words."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any


class PortError(OSError):
    """A port cannot be had; the message names it and says what to do."""


def listen(host: str, port: int, *, what: str, shared: bool = False) -> socket.socket:
    """A bound TCP socket; port 0 picks a free one. `shared`: other workers of this node may bind the same port.

    Raises PortError when the address is in use, not ours, or forbidden.
    """
    if not 0 <= port <= 65535:
        raise PortError(f"{what} {authority(host, port)}: ports are 0 to 65535")
    try:
        family, address = _resolve(host, port)
    except OSError as error:
        raise PortError(f"{what} {authority(host, port)}: no such host") from error
    # The protocol is named because asyncio switches Nagle off (40 ms a reply otherwise) only where it is.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise PortError(f"{what} {authority(host, port)}: {_reason(error)}") from error
    return sock


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them.

    >>> authority("::1", 80), authority("[::1]", 80), authority("localhost", 80)
    ('[::1]:80', '[::1]:80', 'localhost:80')
    """
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The first address of a host, an IPv4 one where it has both; IPv6 may stand in brackets, as in a URL."""
    found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


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
