"""Faults: what may go wrong in a world, how often, and until when. Every decision is drawn from the seed.

The simulated log and its disks ask for theirs (`log.simulated.faults`); the world and its workers for the others.

A kind that is left out never happens (so a failing seed can be shortened); after `calm` nothing does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from random import Random

KINDS: dict[str, tuple[float, int]] = {
    # kind: (the chance whenever it could happen, how often at the most)
    "crash": (0.004, 4),  # the process dies at an effect: a commit sent, a store written, a reply given ...
    "crash_later": (0.0, 3),  # the process dies between two events
    "freeze": (0.0, 2),  # the process stands still, its session expires, it goes on
    "evict": (0.0, 2),  # the session expires while it goes on: a zombie
    "evict_pending": (0.03, 3),  # the session expires while a transaction's offsets are pending, its records still on their way
    "rebalance": (0.0, 4),  # a shard moves though nobody came or went
    "stop": (0.0, 2),  # a clean stop, and a start
    "join": (0.0, 1),  # one more worker
    "refuse": (0.03, 4),  # the broker aborts a transaction
    "unknown_applied": (0.03, 3),  # committed, but the answer is lost
    "unknown_lost": (0.03, 3),  # not committed, and the answer is lost
    "torn": (0.2, 3),  # part of a changelog-only epoch is committed
    "slow_commit": (0.02, 3),  # a commit takes seconds: past a session, past the transaction's timeout
    "late_marker": (0.01, 6),  # decided, but readers see it much later
    "late_batch": (0.08, 12),  # a fetched batch reaches the engine much later
    "log_error": (0.02, 8),  # a question to the log fails
    "store_error": (0.01, 3),  # the disk is full
    "store_stale": (0.4, 9),  # a crash loses what was not flushed
    "store_lost": (0.2, 3),  # a crash loses the disk
    "step_slow": (0.1, 6),
    "step_fails": (0.08, 6),
    "clock": (0.0, 3),  # a worker's clock jumps
    "clock_set": (0.0, 3),  # a clock, or every clock, is set back by seconds or hours, or ahead
    "compact": (0.0, 9),
    "duplicate": (0.2, 6),  # a client asks again though its first request is under way
    "outdated": (0.2, 4),  # the group refuses an epoch for its generation, though all that it touches is still this worker's
    "moved_sender": (0.3, 3),  # a shard moves when it has sent a command that will be read much later
    "oversleep": (0.05, 1),  # frozen while a commit is answered, through two cleanings; then the others stop
    "retention": (0.5, 4),  # an input deletes what is old, read or not
    "anew": (0.3, 2),  # an input is deleted and made again
    "bad_block": (0.004, 4),  # what is read from a store lies in a block whose bytes have changed
    "torn_files": (0.3, 3),  # after a crash a store cannot be opened: a file is missing, or cut short
    "denied": (0.02, 3),  # for a while nobody may write to a topic of the epoch that is sent, the app's own included
    "denied_abroad": (0.5, 3),  # for a while one app may not write to the other's commands
    "stranger": (0.0, 12),  # somebody writes what is not the app's own into its journal or state
    "folder_gone": (0.05, 2),  # a store's folder is removed while it is in use, which shows when it is flushed
}
RARE = {"moved_sender": 0.5, "oversleep": 0.5, "retention": 0.7, "anew": 0.5, "outdated": 0.5}
"""Kinds in force in so many seeds, drawn from a source of their own: the others come as they would without them."""
DISKS = {"bad_block": 0.6, "torn_files": 0.4, "folder_gone": 0.4}
"""The same, from one more source."""
APART = {"clock_set": 0.3}
"""The same, from another one; what such a kind does is drawn from it, too."""
RIGHTS = {"denied": 0.3}
"""And from one more."""
ABROAD = {"denied_abroad": 0.5}
"""And once more."""
OTHERS = {"stranger": 0.3}
"""From one more, with what they write."""
NUISANCE = {"compact", "store_stale", "store_lost", "step_slow", "duplicate", "late_marker", "late_batch"}
"""Kinds that say how something happens rather than that it does: in force in every seed."""


START_MS = 1_700_000_000_000.0
"""When a world begins."""
SKEW_MS = 5_000.0
"""The clocks of two workers may be twice as far apart."""


class Faults:
    """The faults of one world."""

    def __init__(self, seed: int, kinds: Collection[str] | None = None) -> None:
        self.rng = Random(f"{seed}/faults")
        self.rare = Random(f"{seed}/rare")
        self.disks = Random(f"{seed}/disks")
        self.clocks = Random(f"{seed}/clocks")
        self.rights = Random(f"{seed}/rights")
        self.abroad = Random(f"{seed}/abroad")
        self.others = Random(f"{seed}/others")
        draw = Random(f"{seed}/kinds")
        apart = (RARE, DISKS, APART, RIGHTS, ABROAD, OTHERS)
        usual = [kind for kind in KINDS if not any(kind in some for some in apart)]
        some = {kind for kind in usual if kind in NUISANCE or draw.random() < draw.choice((0.15, 0.5, 0.9))}
        some |= {kind for kind, often in RARE.items() if self.rare.random() < often}
        some |= {kind for kind, often in DISKS.items() if self.disks.random() < often}
        some |= {kind for kind, often in APART.items() if self.clocks.random() < often}
        some |= {kind for kind, often in RIGHTS.items() if self.rights.random() < often}
        some |= {kind for kind, often in ABROAD.items() if self.abroad.random() < often}
        some |= {kind for kind, often in OTHERS.items() if self.others.random() < often}
        self.kinds = frozenset(some if kinds is None else kinds)
        self.calm = False
        self.happened: Counter[str] = Counter()

    def hit(self, kind: str) -> bool:
        """Whether it goes wrong here and now."""
        chance, _ = KINDS[kind]
        return self.may(kind) and self.source(kind).random() < chance and self.happen(kind)

    def source(self, kind: str) -> Random:
        """What decides about a kind of fault, and how it goes."""
        if kind in RIGHTS:
            return self.rights
        if kind in ABROAD:
            return self.abroad
        return self.disks if kind in DISKS else self.rare if kind in RARE else self.rng

    def may(self, kind: str) -> bool:
        """Whether it may still happen."""
        return not self.calm and kind in self.kinds and self.happened[kind] < KINDS[kind][1]

    def happen(self, kind: str) -> bool:
        """Note that it does."""
        self.happened[kind] += 1
        return True
