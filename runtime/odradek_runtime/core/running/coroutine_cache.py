"""The coroutine cache: invocations that wait, kept live so that they go on without a replay. Bounded by number and by bytes.

Beside the runner, which puts in what it suspends and takes out what goes on. What is let go comes back by `revival`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .invocation import Live

SUSPENDED_BYTES = 2_048
"""What an invocation that waits takes beside its payload and its journal, about: a coroutine, its context, futures."""
PINNED = 100
"""So many that cannot go yet are passed over: the result of each is on its way, and they are gone at the next epoch's end."""


class CoroutineCache:
    """Suspended invocations, least recently used first to go."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._suspended: dict[tuple[int, str], tuple[Live, int]] = {}
        self.held_bytes = 0
        """By all of them, about: payloads and journals, as bytes and as the objects made of them."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._suspended)

    def keep(self, live: Live) -> None:
        """It waits, since now."""
        self.release(live)
        size = SUSPENDED_BYTES + 2 * data_bytes(live)
        self._suspended[live.shard.number, live.id] = live, size
        self.held_bytes += size

    def release(self, live: Live) -> None:
        """It is not among the suspended any more, if it was: it goes on, or has ended."""
        _, size = self._suspended.pop((live.shard.number, live.id), (live, 0))
        self.held_bytes -= size

    def surplus(self) -> Iterator[Live]:
        """Those beyond the bounds, released. Called between epochs."""
        pinned = 0
        while pinned < PINNED and (len(self._suspended) > self._most or self.held_bytes > self._most_bytes):
            slot, (live, _) = next(iter(self._suspended.items()))
            if live.journal.unwritten:
                self._suspended[slot] = self._suspended.pop(slot)
                pinned += 1
            else:
                self.release(live)
                yield live


def data_bytes(live: Live) -> int:
    """Of its payload and its journal."""
    return len(live.payload or b"") + live.journal.held_bytes
