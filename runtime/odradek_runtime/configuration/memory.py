"""Memory: one setting, `memory_bytes`, and the shares of it that a worker may hold for each purpose. A number in, numbers out.

What is not in it: the interpreter, the app's code and its libraries, and what a running step or handler builds for itself.
Past a share a worker refuses (clients: 429), writes to disk (stores), forgets what it can read again (blocks, recent values,
suspended coroutines), or begins nothing more of the kind (steps, fetches): it never drops anything (invariant 7).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shares:
    """What may be held at once, in bytes, by all shards of a worker together.

    >>> Shares.of(512 * 1024 * 1024, largest_bytes=8_000_000).clients_bytes == 128 * 1024 * 1024
    True
    """

    clients_bytes: int
    """HTTP: bodies as they arrive, requests until they are answered, answers until they are read."""
    tables_bytes: int
    """What the stores have taken and not yet written to their files."""
    blocks_bytes: int
    """What the stores have read of their files."""
    recent_bytes: int
    """Values of the last commits, the store's and not yet the store's, by key."""
    suspended_bytes: int
    """Payloads and journals of invocations that wait with their coroutines live."""
    results_bytes: int
    """Results of steps, from when they are there until their epoch has them."""
    fetched_bytes: int
    """Records that are fetched and wait for their turn."""

    @classmethod
    def of(cls, memory_bytes: int, *, largest_bytes: int) -> Shares:
        """`largest_bytes`: of one record. Two of these have room among what is held for clients, whatever the setting."""
        part = memory_bytes // 16
        return cls(
            clients_bytes=max(4 * part, 2 * largest_bytes),
            tables_bytes=2 * part,
            blocks_bytes=part,
            recent_bytes=2 * part,
            suspended_bytes=2 * part,
            results_bytes=2 * part,
            fetched_bytes=2 * part,
        )
