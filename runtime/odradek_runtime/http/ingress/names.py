"""The names that a port answers to, as the header `host` has them.

A page may give its own name the address of this machine (DNS rebinding): for the browser our answers are then the page's own. Such
a request names the page's host, so a port on loopback answers to loopback's names alone, and to those of the setting `http_hosts`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

REMEMBERED = 64
"""So many spellings of `host` are looked up instead of read; clients have few."""


class Names:
    """What one port is called. With no `names`, and not on loopback, it answers to all.

    On loopback it is called localhost, *.localhost, 127.0.0.0/8 and [::1] besides; elsewhere it answers to every address besides,
    as no name server can make an address mean another: probes and the other workers ask by address.

    >>> port = Names(["app.example", "*.svc"], loopback=True)
    >>> [port.has(host) for host in (b"app.example:8080", b"w-0.svc", b"LOCALHOST.:1", b"127.1.2.3", b"[::1]:80", b"a.localhost")]
    [True, True, True, True, True, True]
    >>> [port.has(host) for host in (b"evil.example", b"svc", b"localhost.evil.example", b"10.0.0.7:80", b"127.0.0.1.nip.io", b"")]
    [False, False, False, False, False, False]
    >>> Names(["app.example"], loopback=False).has(b"10.0.0.7:80"), Names([], loopback=False).has(b"any.example")
    (True, True)
    """

    def __init__(self, names: Iterable[str], *, loopback: bool) -> None:
        self._names = {name.lower() for name in names}
        self._loopback = loopback
        self._open = not self._names and not loopback
        self._known: set[bytes] = set()

    @classmethod
    def of(cls, sock: socket.socket, own: Iterable[str], names: Iterable[str]) -> Names:
        """Those of a bound socket: `own`, which it is told to others by, count only where the check applies."""
        loopback = _address(str(sock.getsockname()[0])).is_loopback
        given = list(names)
        return cls([*given, *(name for name in own if name)] if given or loopback else [], loopback=loopback)

    def has(self, host: bytes) -> bool:
        """Whether a request with this header `host` is for this port."""
        if self._open or host in self._known:
            return True
        if not self._is_ours(host_name(host)):
            return False
        if len(self._known) < REMEMBERED:
            self._known.add(host)
        return True

    def _is_ours(self, name: str) -> bool:
        if name in self._names or any(name.endswith(known[1:]) for known in self._names if known.startswith("*.")):
            return True
        try:
            address = _address(name)
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")
        return address.is_loopback if self._loopback else True


def host_name(host: bytes) -> str:
    """A host without its port, in lower case.

    >>> host_name(b"App.Example:8080"), host_name(b"[::1]:80"), host_name(b"::1"), host_name(b"localhost.")
    ('app.example', '::1', '::1', 'localhost')
    """
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, colon, port = text.partition(":")
    if colon and port and not port.isdigit():
        return text
    return name.removesuffix(".")


def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text.partition("%")[0])
