"""Who may come in, and what for: the limits of one port, and the count of connections that are open and were refused.

A connection costs memory and a file descriptor before it has said anything, so its limits stand before the first byte is parsed.
`protocol` holds each connection to them; `server` looks at all of them once a second, which is cheaper than a timer for each.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from odradek_runtime.http.ingress.budget import Budget
from odradek_runtime.http.ingress.descriptors import places_for
from odradek_runtime.http.ingress.names import Names

if TYPE_CHECKING:
    from odradek_runtime.configuration.settings import Settings

REASONS = {
    "connections": "more connections than the port takes",
    "address": "more connections from one address than it takes",
    "slow_head": "request line and headers that did not arrive in time",
    "slow_body": "bodies that did not arrive in time",
    "slow_reader": "answers that the client did not read in time",
    "head_bytes": "request lines and headers that are too long",
    "framing": "bodies in pieces far too small",
    "pipelined": "too many requests sent ahead of their answers",
    "malformed": "what is no HTTP as it should be",
    "host": "requests for a host that is no name of the port",
    "origin": "what a browser sent for a page of another origin",
}
"""Why a connection or a request is refused, as the metric's label says it."""
IPV6_NETWORK_BITS = 64
"""Who has one IPv6 address has all of its network."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one port takes; 0 connections of one address: as many as there are places."""

    connections: int = 10_000
    per_address: int = 0
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: int = 75
    head_bytes: int = 65_536

    @classmethod
    def public(cls, settings: Settings) -> Limits:
        """Of the port that clients reach."""
        return cls(
            connections=places_for(settings.http_connections),
            per_address=settings.http_connections_per_address,
            head_s=settings.http_head_s,
            body_s=settings.http_body_s,
            idle_s=settings.http_idle_s,
            head_bytes=settings.http_head_bytes,
        )


class Door:
    """The door of one port: who is in, and who was turned away. Counted in the loop of its server, read anywhere."""

    def __init__(
        self,
        limits: Limits | None = None,
        budget: Budget | None = None,
        names: Names | None = None,
        origins: frozenset[str] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.budget = budget or Budget(sys.maxsize)
        self.names = names or Names([], loopback=False)
        self.origins = origins
        """Whose pages may have a browser ask: besides the port's own; None: nobody's ever."""
        self.open = 0
        self.refused = dict.fromkeys(REASONS, 0)
        self._by_address: dict[str, int] = {}

    def enter(self, address: str) -> str:
        """Let a connection in: "", or the reason why not."""
        if self.open >= self.limits.connections:
            return "connections"
        here = self._by_address.get(address, 0)
        if 0 < self.limits.per_address <= here:
            return "address"
        self._by_address[address] = here + 1
        self.open += 1
        return ""

    def leave(self, address: str) -> None:
        """One that had been let in has ended."""
        self.open -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]


def network_of(address: str) -> str:
    """What counts as one address.

    >>> network_of("10.0.0.7"), network_of("2001:db8:1:2:aaaa::1"), network_of("::ffff:10.0.0.7")
    ('10.0.0.7', '2001:db8:1:2::', '10.0.0.7')
    """
    if ":" not in address:
        return address
    whole = IPv6Address(address.partition("%")[0])
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped)
    rest = 128 - IPV6_NETWORK_BITS
    return str(IPv6Address(int(whole) >> rest << rest))
