"""What is told of invocations: which are asked for, how each stands, and the entries of one's journal.

Leaves: the roll makes them of what the stores hold, the admin API passes them on, commands show them.
"""

from __future__ import annotations

import msgspec

STATUSES: tuple[str, ...] = ("running", "suspended", "backing_off", "paused", "inboxed", "scheduled")
"""Of invocations that have not ended. `running`: one of its steps is at work, or waits for a thread; `suspended`: it waits."""
ENDED: tuple[str, ...] = ("completed", "failed")
"""Of those whose completion is kept."""


class Wanted(msgspec.Struct):
    """Which invocations. Empty or 0: whatever it is; `statuses` empty: those that have not ended."""

    ids: list[str] = []
    service: str = ""
    handler: str = ""
    key: str | None = None
    statuses: list[str] = []
    older_s: float = 0.0
    younger_s: float = 0.0
    limit: int = 100


class Awaited(msgspec.Struct, omit_defaults=True):
    """Something that an invocation waits for. `kind`: of the operation, or key, turn, start, attempt, operator.

    `id`: the invocation whose end, or whose key, it is; `due_ms`: when it comes of itself; `attempt`: failed runs of a step so far.
    """

    kind: str
    name: str = ""
    key: str | None = None
    ref: int = -1
    id: str = ""
    app: str = ""
    since_ms: int = 0
    due_ms: int = 0
    attempt: int = 0


class Sighting(msgspec.Struct, omit_defaults=True):
    """How one invocation stands. Times are Unix milliseconds, 0 = none; `since_ms`: since when it has not got any further."""

    id: str
    target: str
    status: str
    shard: int
    key: str | None = None
    created_ms: int = 0
    since_ms: int = 0
    due_ms: int = 0
    waits_for: list[Awaited] = []
    attempts: int = 0
    error: str = ""
    code: int = 0
    pause: str = ""
    caller_app: str = ""
    caller_id: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    replay: str = ""
    python: str = ""
    entries: int = 0
    input: bool = False
    """What started it is kept, so that it can be restarted."""


class EntrySeen(msgspec.Struct, omit_defaults=True):
    """One entry of a journal: when it was written, and when its result was. `value`: as text, cut; `size`: of all of it."""

    ref: int
    kind: str
    name: str = ""
    key: str | None = None
    at_ms: int = 0
    due_ms: int = 0
    ended_ms: int = 0
    ended: bool = False
    value: str = ""
    size: int = 0
    code: int = 0
    error: str = ""
    callee: str = ""
    app: str = ""


class JournalSeen(msgspec.Struct):
    """An invocation and its journal, in the order of its code."""

    invocation: Sighting
    entries: list[EntrySeen]


class RollPart(msgspec.Struct):
    """What one worker has seen in these shards: how many match, and the oldest of them; `partial`: time was up before the end."""

    shards: list[int]
    matching: int = 0
    found: list[Sighting] = []
    partial: bool = False


class Roll(msgspec.Struct):
    """What all workers have seen. `unknown_shards`: those that nobody speaks for just now."""

    invocations: list[Sighting]
    matching: int
    unknown_shards: list[int]
    partial: bool = False


def whole(parts: list[RollPart], shards: int, limit: int) -> Roll:
    """Of all workers' parts. A shard that has just moved is told of once."""
    seen, found, matching = set[int](), list[Sighting](), 0
    for part in parts:
        if seen.isdisjoint(part.shards):
            found += part.found
            matching += part.matching
        else:
            fresh = [each for each in part.found if each.shard not in seen]
            found += fresh
            matching += len(fresh)
        seen |= set(part.shards)
    found.sort(key=lambda each: (each.created_ms, each.id))
    return Roll(found[:limit], matching, sorted(set(range(shards)) - seen), any(part.partial for part in parts))
