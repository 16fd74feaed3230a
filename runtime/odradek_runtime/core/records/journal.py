"""The journal of one invocation: what its code did (commands) and what came back (completions), each in its own order.

The coroutine is a function of the completions alone: one is delivered whenever it waits, never otherwise. So replay needs
no clock and no interleaving: it repeats the commands, compares them one by one, and feeds the completions in their order.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType

from .formats import CHUNK, Chunk, Entry
from .request import Failure

Act = tuple[str, str, bytes | None, bytes | None, float]
"""What the code just did and no epoch holds yet: (kind, name, key, value, at_ms)."""
Segment = tuple[Sequence[Act], Mapping[int, Failure] | None]
"""What it did between two waits, and which of that was refused where it was made."""


CANCELLATION = 2**31 - 1
"""Stands for the entry that a cancellation completes: none. It comes among the completions, where it came.

Its value says how many entries there were: with the next its clean-up begins.
"""
CHUNK_BYTES = 128 * 1024
"""A chunk is closed when it would grow beyond this, half of what the smallest topic takes; an entry that is larger stands alone."""
ENTRY_BYTES = 32
"""What an entry takes besides its name, key and value, about."""


class Diverged(BaseException):
    """The code did something else than its journal says. Not an Exception, so that no handler swallows it."""


class Journal:
    """The recorded part, and how far replay has come in it.

    What the open epoch adds is kept as it came until the journal is written: an invocation that ends before that needs no entries.
    """

    __slots__ = ("chunks", "commands", "completed", "completions", "cursor", "delivered", "held_bytes", "length", "unwritten")

    def __init__(self) -> None:
        self.commands: list[Entry] = []
        """But those of the open epoch."""
        self.length = 0
        """How many commands there are, with those."""
        self.completions: list[Entry] = []
        self.completed: set[int] = set()
        self.cursor = 0
        self.delivered = 0
        self.unwritten: list[Entry | Segment] = []
        self.chunks: list[bytes] = []
        self.held_bytes = 0
        """What its entries hold, about."""

    @classmethod
    def load(cls, chunks: Iterable[tuple[bytes, bytes]]) -> Journal:
        """From the chunks in their order. Raises FormatError when one cannot be read."""
        journal = cls()
        for key, value in chunks:
            journal.chunks.append(key)
            for entry in CHUNK.decode(value).entries:
                if entry.kind != "completion":
                    journal.commands.append(entry)
                    journal.held_bytes += _size(entry)
                elif entry.ref not in journal.completed:  # the first result of an entry is final
                    journal.held_bytes += _size(entry)
                    journal.completed.add(entry.ref)
                    journal.completions.append(entry)
        journal.length = len(journal.commands)
        return journal

    @property
    def replaying(self) -> bool:
        return self.cursor < self.length

    def replay(self, kind: str, name: str, key: bytes | None) -> Entry:
        """The recorded entry for what the code does now. Raises Diverged when they differ."""
        entry = self.commands[self.cursor]
        if entry.kind != kind or entry.name != name or (entry.key != key and kind != "sleep"):
            raise Diverged(
                f"entry {self.cursor}: the journal has {describe(entry.kind, entry.name, entry.key)}, "
                f"the code did {describe(kind, name, key)} at {where()}"
            )
        self.cursor += 1
        return entry

    def add_commands(self, commands: list[Act], refusals: Mapping[int, Failure] | None = None) -> None:
        """A segment has become part of the epoch. One without commands leaves the cursor, which may stand amid a replay.

        `refusals`: which of them were refused where they were made, and how.
        """
        if commands:
            self.unwritten.append((commands, refusals))
            self.held_bytes += ENTRY_BYTES * len(commands)
            self.length += len(commands)
            self.cursor = self.length

    def add_completion(self, completion: Entry) -> None:
        self.completions.append(completion)
        self.completed.add(completion.ref)
        self.unwritten.append(completion)
        self.held_bytes += _size(completion)

    def take_unwritten(self, at_ms: float, most_bytes: int = CHUNK_BYTES) -> list[bytes]:
        """What this epoch, of that time, adds: in chunks that the log takes."""
        entries = self._settle()
        self.unwritten = []
        chunks: list[bytes] = []
        begin = size = 0
        for index, entry in enumerate(entries):
            added = _size(entry)
            if size and size + added > most_bytes:
                chunks.append(CHUNK.encode(Chunk(entries[begin:index], int(at_ms))))
                begin, size = index, 0
            size += added
        chunks.append(CHUNK.encode(Chunk(entries[begin:], int(at_ms))))
        return chunks

    def command(self, ref: int) -> Entry | None:
        """One of the commands, by its number; None: there is no such."""
        if ref >= len(self.commands):
            self.unwritten = [*self._settle()]
        return self.commands[ref] if ref < len(self.commands) else None

    def unanswered(self) -> list[Entry]:
        """The commands that have no result yet, and were not refused."""
        self.unwritten = [*self._settle()]
        return [entry for entry in self.commands if entry.failure is None and entry.ref not in self.completed]

    def _settle(self) -> list[Entry]:
        """Entries of all that is unwritten, in the order in which it came; its commands have their places from now on."""
        found: list[Entry] = []
        for part in self.unwritten:
            if isinstance(part, Entry):
                found.append(part)
                continue
            acts, refusals = part
            for index, (kind, name, key, value, at_ms) in enumerate(acts):
                failure = refusals.get(index) if refusals else None
                entry = Entry(kind, len(self.commands), name, key, value, failure, at_ms)
                self.commands.append(entry)
                self.held_bytes += _size(entry) - ENTRY_BYTES
                found.append(entry)
        assert len(self.commands) == self.length, "each has its number since it was done"
        return found


def _size(entry: Entry) -> int:
    size = ENTRY_BYTES + len(entry.name) + len(entry.key or b"") + len(entry.value or b"")
    return size if entry.failure is None else size + entry.failure.held_bytes


def describe(kind: str, name: str, key: bytes | None) -> str:
    """An entry as people read it: call customer/thank (key 'bob')."""
    text = f"{kind} {name}".rstrip()
    return f"{text} (key {key.decode('utf-8', 'replace')!r})" if key is not None else text


def where() -> str:
    """File and line of the user's code that is running: the innermost frame that is not odradek's own."""
    for frame, line in traceback.walk_stack(None):
        if not _ours(frame):
            return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return "an unknown place"


def _ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith(("odradek.", "odradek_runtime")) or module in ("odradek", "traceback", "asyncio")
