"""How long the journal of one invocation may grow: what never ends would otherwise cost more with every replay, and end in memory.

Stands between a handler that waits and the pause that it meets at the limit. Nothing is lost there: it goes on when the limit
is raised.
"""

from __future__ import annotations

from .journal import Journal

WAY_OUT = (
    "raise the setting and it goes on; or let the handler go on as another invocation from time to time: it sends itself what "
    "remains and returns (docs/calls.md), or calls others that do a part each"
)


class JournalLimit:
    """So many entries (what the code did, without what came back), and about so many bytes with their results."""

    def __init__(self, entries: int, bytes_: int) -> None:
        self._entries = entries
        self._bytes = bytes_

    def why_over(self, journal: Journal, added: int) -> str:
        """Why `added` more entries are too many, with the way out. "" if they are not."""
        length = journal.length + added
        if length > self._entries:
            return f"its journal would have {length:,} entries, and may have {self._entries:,} (setting journal_entries): {WAY_OUT}"
        if journal.held_bytes > self._bytes:
            held = f"its journal holds {journal.held_bytes:,} bytes, and may hold {self._bytes:,} (setting journal_bytes)"
            return f"{held}: {WAY_OUT}"
        return ""

    def halfway(self, journal: Journal, added: int) -> bool:
        """Whether these bring it to half of what it may have: the time to tell somebody."""
        half = self._entries // 2
        return journal.length < half <= journal.length + added
