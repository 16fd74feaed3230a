"""Who wrote a commands offset: the mark that every commit leaves in the offset's metadata for its successor.

Stands in each transaction's offsets, and is read at takeover: it names the transactional ids that may still hold a
pending transaction, and the member whose absence from the group shows that it is dead.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

PRODUCERS = 2
"""Taking turns: the next transaction begins while the markers of the last are being written."""

_PREFIX = "odradek"


@dataclass(frozen=True, slots=True)
class Owner:
    """One incarnation of a worker in its app's group."""

    app: str
    incarnation: str

    @classmethod
    def new(cls, app: str) -> Owner:
        """An incarnation that never was before."""
        return cls(app, uuid.uuid4().hex)

    @property
    def transactional_ids(self) -> tuple[str, ...]:
        """Of its producers."""
        return tuple(f"{self.app}-{self.incarnation}-{number}" for number in range(PRODUCERS))

    def client_id(self, url: str | None) -> str:
        """What the group's coordinator shows of this member: its private URL, the incarnation as the fragment."""
        return f"{url or _PREFIX}#{self.incarnation}"

    def mark(self, member_id: str) -> str:
        """The offset metadata, naming the member as the group knows it.

        The ids are spelled out, so that a later version may choose others.
        """
        return " ".join((_PREFIX, self.incarnation, word(member_id), *self.transactional_ids))


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark as found."""

    incarnation: str
    member_id: str
    transactional_ids: tuple[str, ...]


def word(member_id: str) -> str:
    """A member id as one word."""
    return "".join(member_id.split()) or "-"


def read_mark(metadata: str) -> Mark | None:
    """The mark in an offset's metadata; None if somebody else wrote it."""
    words = metadata.split()
    if len(words) < 4 or words[0] != _PREFIX:
        return None
    return Mark(words[1], words[2], tuple(words[3:]))


def read_client_id(client_id: str) -> tuple[str | None, str]:
    """(private URL or None, incarnation) of a member's client id.

    >>> read_client_id("http://10.0.0.7:8081#c0ffee")
    ('http://10.0.0.7:8081', 'c0ffee')
    """
    url, _, incarnation = client_id.partition("#")
    return (url if "://" in url else None), incarnation
