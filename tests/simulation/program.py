"""Generated programs: tasks, told as data, that objects and services carry out; and what is sent to them from outside.

A task is a list of operations. To add a kind: an entry in `WEIGHTS`, a `_kind` here that makes one, a method in `app.py` that
carries it out, and a line in `model.py` that says what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from odradek_runtime.log.simulated.brokers import INDIGESTIBLE

from . import flows

APP, OTHER = "sim", "other"
OBJECTS = ("a", "b")
HELD = "held"
"""An object whose bad records pause their key. Only records come to it: what is paused would be waited for, for ever."""
DOOMED = "doomed"
"""An object whose tasks, some of them, never end of themselves (`controlling`)."""
FAR = "far"
"""The object of the other app. It calls no object: two keys could wait for each other."""
KEYED = (*OBJECTS, HELD, FAR, DOOMED, flows.FLOW)
KEYS = ("k0", "k1", "k2", "k3")
TOP = len(OBJECTS) * len(KEYS)
Task = dict[str, Any]
Op = dict[str, Any]

WEIGHTS = {
    "note": 6,
    "mark": 3,
    "scratch": 2,
    "step": 4,
    "exhausted": 1,
    "sleep": 3,
    "nap": 3,
    "call": 5,
    "send": 4,
    "burst": 2,
    "shared": 1,
    "own": 1,
    "fail": 2,
    "draw": 3,
    "terminate": 1,
    "join": 2,
    "limited": 2,
    "late": 1,
    "frail": 1,
}
MORE = {"stumble": 4, "abroad": 8, "burst": 8}
"""Operations of what is added to some programs (see `Generator.widen`)."""
LIVELY = 0.35
"""In so many of the programs tasks wait for what others give them."""
GIVEN = {"awakeable": 8, "flow": 8}
"""Operations of what is added to those (see `Generator.enliven`)."""
CONCURRENT = 0.3
"""In so many of the programs tasks do several things at once, by plain asyncio."""
BESIDE = {"together": 8, "race": 5, "deadline": 6}
"""Operations of what is added to those (see `Generator.concur`)."""
SENDING = ("call", "send", "burst", "limited", "late", "frail", "abroad")
"""Operations with tasks of their own."""
BRIEF = "in-brief"
LATE_MS = 70_000
LONG_MS = 30_000
"""A wait that is not within a minute of its end, whenever a clock is set."""
TIMEOUT_S = 1.0


POISON, POISONED = 0.08, 0.3
"""In so many of the programs so many of the tasks publish a record that no broker takes."""
LARGE = 0.12
"""So many of the programs have records, values and results of about the size that the app's topics take."""
LIMIT_BYTES = 262_144
FITS, EXCEEDS = 240_000, 270_000
WAYS = ("state", "publish", "step", "argument", "send", "result", "reason")
"""How a task makes something large: the last is an error with a text of that size."""
WIDE = 0.3
"""So many of the programs have more in them: bad records that pause their key, a second app."""


@dataclass(frozen=True)
class Entry:
    """Something from outside: a record (`topic`), or a request."""

    at_ms: float
    target: str
    key: str
    task: Task
    topic: str = ""
    raw: bytes | None = None
    """A record's value when it is not a task at all."""
    idempotent: bool = False
    wait: bool = True
    delay_ms: int = 0
    replay: str = ""
    """What has delivered it again."""


@dataclass
class Program:
    """What one seed does. `pool`: tasks called with an idempotency key, from several places, that run once."""

    shards: int
    partitions: int
    aligned: bool
    """Records lie in the partition of their key, so that nothing needs to be forwarded."""
    limit: int = 1
    """How many tasks of the service `lim` may run in one worker at a time."""
    skips: bool = False
    """Records of `in-b` that cannot be processed are skipped; else they go to a topic of their own."""
    held: bool = False
    """Records come to the object whose bad ones pause their key."""
    brief: bool = False
    """Records come by a topic that deletes what is old, read or not."""
    far_shards: int = 0
    """There is a second app, with so many shards."""
    doomed: bool = False
    """Some of its tasks never end, and are killed."""
    large: bool = False
    """The app's own topics take records of LIMIT_BYTES, and some are larger."""
    entries: list[Entry] = field(default_factory=list[Entry])
    flows: list[Task] = field(default_factory=list[Task])
    """The task of each workflow."""
    pool: list[tuple[str, str, Task]] = field(default_factory=list[tuple[str, str, Task]])

    @property
    def by_wall(self) -> bool:
        """Something in it waits for a time of the wall clock: a delayed start, or a wait of more than a minute."""
        delayed = any(entry.delay_ms for entry in self.entries)
        return delayed or self._has(lambda part: part.get("delay_ms") or part.get("ms", 0) > LONG_MS)

    @property
    def given_up(self) -> bool:
        """Something in it is ended by its timeout: what it did before its first wait must not have waited longer than that."""
        return self._has(lambda part: part.get("op") == "late")

    def _has(self, holds: Callable[[dict[str, Any]], Any]) -> bool:
        tasks = [entry.task for entry in self.entries] + [task for _, _, task in self.pool]
        return any(_any_part(task, holds) for task in tasks)


def _any_part(part: Any, holds: Callable[[dict[str, Any]], Any]) -> bool:
    if isinstance(part, dict):
        return bool(holds(part)) or any(_any_part(value, holds) for value in part.values())
    return isinstance(part, list) and any(_any_part(value, holds) for value in part)


class Generator:
    """Draws a program from a seed."""

    def __init__(self, seed: int, steps: int, poison: float | None = None) -> None:
        draw = Random(f"{seed}/poison")
        self._poison = (POISON if draw.random() < POISONED else 0.0) if poison is None else poison
        """How many tasks publish a record that no broker takes."""
        self.rng = Random(f"{seed}/program")
        self._tasks = 0
        self._budget = 0
        self._more: dict[str, int] = {}
        shards = self.rng.choice((1, 2, 3, 4))
        aligned = self.rng.random() < 0.5
        partitions = shards if aligned else self.rng.randint(1, 5)
        self.program = Program(shards, partitions, aligned, self.rng.choice((1, 1, 2, 4)), self.rng.random() < 0.3)
        for _ in range(self.rng.randint(0, 3)):
            rank = self.rng.randrange(TOP // 2, TOP)
            self._budget = 4
            self.program.pool.append((*place(rank), self.task(rank, 0)))
        span_ms = self.rng.choice((100.0, 2_000.0, 20_000.0))
        for _ in range(self.rng.randint(1, max(1, steps // 3))):
            self._budget = self.rng.randint(1, 8)
            self.program.entries.append(self._entry(self.rng.uniform(0, span_ms)))
        self.rng = Random(f"{seed}/more")  # of its own: what a seed does without it stays as it is
        if self.rng.random() < WIDE:
            self.widen(span_ms)
        self.rng = Random(f"{seed}/size")
        if self.rng.random() < LARGE:
            self.enlarge(span_ms)
        self.rng = Random(f"{seed}/given")
        if self.rng.random() < LIVELY:
            self.enliven(span_ms)
        self.rng = Random(f"{seed}/concurrent")
        if self.rng.random() < CONCURRENT:
            self.concur(span_ms)
        self.program.entries.sort(key=lambda entry: entry.at_ms)

    def widen(self, span_ms: float) -> None:
        """Add what only some of the programs have."""
        rng, program = self.rng, self.program
        self._more = dict(MORE)
        program.held = rng.random() < 0.5
        program.brief = rng.random() < 0.4
        program.far_shards = rng.choice((0, 1, 2, 3))
        if program.far_shards:
            self._budget = 4
            program.pool.append((FAR, rng.choice(KEYS), self.task(TOP, 0)))
        else:
            del self._more["abroad"]
        for _ in range(rng.randint(1, 4)):
            self._budget = rng.randint(2, 6)
            program.entries.append(self._entry(rng.uniform(0, span_ms)))
        for _ in range(rng.randint(1, 5) if program.held else 0):
            self._budget = 3
            program.entries.append(self._held(rng.uniform(0, span_ms)))
        self._poison = 0.0
        for _ in range(rng.randint(3, 10) if program.brief else 0):
            self._budget = 1
            program.entries.append(self._brief(rng.uniform(0, span_ms)))

    def enliven(self, span_ms: float) -> None:
        """Add tasks that wait for what others give them."""
        for number in range(self.rng.randint(1, 3)):
            self._budget, poison, self._poison = 3, self._poison, 0.0
            self.program.flows.append(flows.drawn(self.rng, number, self.task(TOP, 0)))
            self._poison = poison
        for _ in range(self.rng.randint(0, 2)):
            self.program.entries += flows.entry_of(self.rng, self.program, self.rng.uniform(0, span_ms), Entry)
        self._more = {**self._more, **GIVEN}
        for _ in range(self.rng.randint(1, 5)):
            self._budget = self.rng.randint(2, 6)
            self.program.entries.append(self._entry(self.rng.uniform(0, span_ms)))

    def concur(self, span_ms: float) -> None:
        """Add tasks that do several things at once."""
        self._more = {**self._more, **BESIDE}
        for _ in range(self.rng.randint(1, 4)):
            self._budget = self.rng.randint(2, 6)
            self.program.entries.append(self._entry(self.rng.uniform(0, span_ms)))

    def enlarge(self, span_ms: float) -> None:
        """Add what is large: tasks that make such things, by record and by request, and records that are."""
        rng, self.program.large = self.rng, True
        for number in range(rng.randint(2, 6)):
            self._tasks += 1
            object_, key = place(rng.randrange(TOP))
            ops: list[Op] = [{"op": "note"}]
            for _ in range(rng.randint(1, 3)):
                ops.append({"op": "large", "way": rng.choice(WAYS), "size": rng.choice((FITS, EXCEEDS, 4 * EXCEEDS))})
                ops += rng.choice(([], [{"op": "sleep", "ms": 1, "later": False}], [{"op": "note"}]))
            task: Task = {"id": f"t{self._tasks}", "ops": ops}
            if number % 4 == 0:
                ops.append({"op": "give", "size": rng.choice((FITS, EXCEEDS))})
            size = rng.choice((0, 0, FITS, 4 * EXCEEDS)) if number % 2 else 0
            if size > LIMIT_BYTES:  # whether it runs before it is given up depends on what happens: it fails either way
                task["ops"] = [{"op": "terminate", "code": 418}]
            topic = f"in-{object_}" if number % 2 else ""
            self.program.entries.append(Entry(rng.uniform(0, span_ms), f"{object_}/do", key, {**task, "pad": "x" * size}, topic))

    def _brief(self, at_ms: float) -> Entry:
        """A record that may be deleted before it is read. Its first note tells whether it was."""
        rank = self.rng.randrange(TOP // 2, TOP)
        object_, key = place(rank)
        task = self.task(rank, 1)
        ops = [op for op in task["ops"] if op["op"] != "terminate"]  # a dead letter says where its record lay: in which topic?
        return Entry(at_ms, f"{object_}/do", key, {**task, "ops": [{"op": "note"}, *ops]}, BRIEF)

    def _held(self, at_ms: float) -> Entry:
        """A record whose key is paused if it is bad; of a pair, two handlers each take their part of it."""
        rng = self.rng
        bad = rng.random() < 0.3
        if rng.random() < 0.5:
            task = {**self._plain(bad and rng.random() < 0.3), "pauses": True, "second": self._plain(bad)}
            return Entry(at_ms, f"{HELD}/do", rng.choice(KEYS[2:]), task, "in-pair")
        key = rng.choice(KEYS[:2])
        if bad and rng.random() < 0.3:
            return Entry(at_ms, f"{HELD}/do", key, {"id": "", "ops": []}, "in-held", b"{")
        return Entry(at_ms, f"{HELD}/do", key, {**self._plain(bad), "pauses": True}, "in-held")

    def _plain(self, bad: bool) -> Task:
        """One of which it is plain what stays when it fails: what lies before its wait."""
        self._tasks += 1
        wait: list[Op] = [{"op": "sleep", "ms": self.rng.choice((0, 1, 300)), "later": False}, {"op": "note"}]
        ops: list[Op] = [{"op": "note"}, *(wait if self.rng.random() < 0.5 else [])]
        if bad:
            poison = self._poison and self.rng.random() < 0.7
            ops.append({"op": "poison"} if poison else {"op": "terminate", "code": 418})
        return {"id": f"t{self._tasks}", "ops": ops}

    def _entry(self, at_ms: float) -> Entry:
        rng = self.rng
        if rng.random() < 0.04:
            object_ = rng.choice(OBJECTS)
            raw = rng.choice((b"{", INDIGESTIBLE)) if self._poison else b"{"
            return Entry(at_ms, f"{object_}/do", rng.choice(KEYS), {"id": "", "ops": []}, f"in-{object_}", raw)
        if rng.random() < 0.15:
            request = rng.random() < 0.6
            return Entry(at_ms, "svc/do", "", self.task(-1, 2), "" if request else "in-svc", idempotent=request)
        rank = rng.randrange(TOP)
        object_, key = place(rank)
        task = self.task(rank, 2)
        if rng.random() < 0.5:
            topic = "in-keyed" if object_ == "a" and rng.random() < 0.3 else f"in-{object_}"
            return Entry(at_ms, f"{object_}/do", key, task, topic)
        delay_ms = rng.choice((0, 0, 0, 500, 5_000))
        return Entry(
            at_ms, f"{object_}/do", key, task, idempotent=rng.random() < 0.5, wait=rng.random() < 0.7, delay_ms=delay_ms
        )

    def task(self, rank: int, depth: int) -> Task:
        """One that runs with the key of this rank held (and whatever its callers hold)."""
        self._tasks += 1
        task: Task = {"id": f"t{self._tasks}", "ops": []}
        if self._poison and self.rng.random() < self._poison:
            before = [{"op": "note"}, {"op": "sleep", "ms": 1, "later": False}] if self.rng.random() < 0.5 else []
            task["ops"] = [*before, {"op": "poison"}]
            return task
        for _ in range(self.rng.randint(1, 5)):
            self._budget -= 1
            weights = WEIGHTS | self._more
            kinds = [k for k in weights if (depth > 0 and self._budget > 0) or k not in SENDING]
            kind = self.rng.choices(kinds, [weights[k] for k in kinds])[0]
            op: Op | None = getattr(self, f"_{kind}")(rank, depth)
            if op is not None:
                task["ops"].append({"op": kind, **op})
        return task

    def _note(self, rank: int, depth: int) -> Op | None:
        return {}

    def _mark(self, rank: int, depth: int) -> Op | None:
        return {}

    def _scratch(self, rank: int, depth: int) -> Op | None:
        """State that comes out differently when what was not committed is done again."""
        return {}

    def _step(self, rank: int, depth: int) -> Op | None:
        return {"fails": self.rng.choice((0, 0, 0, 1, 3)), "later": self.rng.random() < 0.4, "sync": self.rng.random() < 0.5}

    def _exhausted(self, rank: int, depth: int) -> Op | None:
        return {"attempts": self.rng.randint(1, 3)}

    def _sleep(self, rank: int, depth: int) -> Op | None:
        return {"ms": self.rng.choice((0, 1, 50, 1_000, 70_000)), "later": self.rng.random() < 0.4}

    def _nap(self, rank: int, depth: int) -> Op | None:
        """A wait for itself alone: what began before it goes on meanwhile."""
        return {"ms": self.rng.choice((0, 1, 30, 100))}

    def _call(self, rank: int, depth: int) -> Op | None:
        later = self.rng.random() < 0.4
        pool = [n for n, (object_, key, _) in enumerate(self.program.pool) if rank_of(object_, key) > rank]
        if pool and self.rng.random() < 0.6:
            return {"pool": self.rng.choice(pool), "later": later}
        if self.rng.random() < 0.25:
            return {"to": "svc/do", "key": "", "task": self.task(rank, depth - 1), "later": later}
        if rank + 1 >= TOP:
            return None
        to = self.rng.randrange(max(rank + 1, 0), TOP)
        object_, key = place(to)
        return {"to": f"{object_}/do", "key": key, "task": self.task(to, depth - 1), "later": later}

    def _send(self, rank: int, depth: int) -> Op | None:
        delay_ms = self.rng.choice((0, 0, 0, 100, 3_000, 65_000))
        if self.rng.random() < 0.2:
            return {"to": "svc/do", "key": "", "task": self.task(-1, depth - 1), "delay_ms": delay_ms}
        to = self.rng.randrange(TOP)
        object_, key = place(to)
        return {"to": f"{object_}/do", "key": key, "task": self.task(to, depth - 1), "delay_ms": delay_ms}

    def _burst(self, rank: int, depth: int) -> Op | None:
        """Several sends to one key, with a little time between them: they must arrive in their order."""
        to = self.rng.randrange(TOP)
        object_, key = place(to)
        tasks: list[Task] = []
        for _ in range(self.rng.randint(2, 5)):
            self._tasks += 1
            tasks.append({"id": f"t{self._tasks}", "ops": [{"op": "note"}]})
        return {"to": f"{object_}/do", "key": key, "tasks": tasks, "ms": self.rng.choice((0, 1, 20, 200, 2_000))}

    def _limited(self, rank: int, depth: int) -> Op | None:
        """Called or sent to the service that does only so many at a time. It calls nobody: they could all wait for one another."""
        op = {"to": "lim/do", "key": "", "task": self.task(-1, 0)}
        return {**op, "later": self.rng.random() < 0.4} if self.rng.random() < 0.5 else {**op, "delay_ms": 0}

    def _late(self, rank: int, depth: int) -> Op | None:
        """Called on a service that gives up on it: what it did before its first wait stays."""
        task = self.task(-1, depth - 1)
        kept = [{**op, "later": True} for op in task["ops"] if op["op"] in ("note", "step", "call", "send")]
        task["ops"] = [*kept, {"op": "sleep", "ms": LATE_MS, "later": False}]
        return {"to": "tim/do", "key": "", "task": task, "later": self.rng.random() < 0.4}

    def _frail(self, rank: int, depth: int) -> Op | None:
        """Called on a service that gives up: what its last attempt did is dropped, what lies before its wait stays."""
        self._tasks += 1
        wait = [{"op": "sleep", "ms": 1, "later": False}, {"op": "note"}] if self.rng.random() < 0.5 else []
        task = {"id": f"t{self._tasks}", "ops": [{"op": "note"}, *wait, {"op": "fail", "times": 1_000_000}]}
        return {"to": "frail/do", "key": "", "task": task, "later": self.rng.random() < 0.4}

    def _shared(self, rank: int, depth: int) -> Op | None:
        object_, key = place(self.rng.randrange(TOP))
        return {"to": f"{object_}/peek", "key": key}

    def _own(self, rank: int, depth: int) -> Op | None:
        return {}

    def _fail(self, rank: int, depth: int) -> Op | None:
        return {"times": self.rng.choice((1, 1, 2, 4))}

    def _draw(self, rank: int, depth: int) -> Op | None:
        return {"what": self.rng.choice(("now", "random", "uuid"))}

    def _stumble(self, rank: int, depth: int) -> Op | None:
        """A step runs while its task fails and is to be tried again."""
        return {"times": self.rng.randint(1, 4), "ms": 1}

    def _abroad(self, rank: int, depth: int) -> Op | None:
        """Called on, or sent to, the object of the other app; by its tasks, to the service of this one."""
        far = {"to": "svc/do", "key": ""} if rank >= TOP else {"to": f"{FAR}/do", "key": self.rng.choice(KEYS)}
        op = {**far, "task": self.task(TOP, depth - 1)}
        if self.rng.random() < 0.6:
            return {**op, "later": self.rng.random() < 0.4}
        return {**op, "delay_ms": self.rng.choice((0, 0, 100, 3_000))}

    def _flow(self, rank: int, depth: int) -> Op | None:
        return flows.operation(self.rng, len(self.program.flows))

    def _awakeable(self, rank: int, depth: int) -> Op | None:
        """It waits for what itself, or the service, gives it: a value, or with a code an error; a second one is not heard."""
        way, code = self.rng.choice(("self", "sent", "sent", "sent")), self.rng.choice((0, 0, 0, 418))
        return {"way": way, "code": code, "delay_ms": self.rng.choice((0, 0, 1, 100, 3_000)), "later": self.rng.random() < 0.5}

    def _together(self, rank: int, depth: int) -> Op | None:
        """Several waits at once: in what order they end is seen, and must be the same ever after."""
        parts = self._parts(2, 6)
        return {"how": self.rng.choice(("gather", "group", "completed", "queue")), "parts": parts, "draws": len(parts)}

    def _race(self, rank: int, depth: int) -> Op | None:
        """The first of several waits: the others are cancelled."""
        return {"parts": self._parts(2, 4), "draws": 1}

    def _deadline(self, rank: int, depth: int) -> Op | None:
        """A wait that may take too long."""
        return {"parts": self._parts(0, 2), "within": self.rng.choice((0, 1, 20, 200, 1_000, 20_000)), "draws": 1}

    def _parts(self, least: int, most: int) -> list[Op]:
        """Sleeps, and steps that may fail a few times."""
        sleeps, steps = [{"ms": ms} for ms in (0, 1, 5, 5, 100, 1_000)], [{"fails": n} for n in (0, 0, 0, 1, 2)]
        return [self.rng.choice(self.rng.choice((sleeps, steps))) for _ in range(self.rng.randint(least, most))]

    def _terminate(self, rank: int, depth: int) -> Op | None:
        return {"code": self.rng.choice((409, 418))}

    def _join(self, rank: int, depth: int) -> Op | None:
        return {}


def place(rank: int) -> tuple[str, str]:
    """(object, key) by rank. Calls only go up in rank, so that no two keys wait for each other."""
    return OBJECTS[rank // len(KEYS)], KEYS[rank % len(KEYS)]


def rank_of(object_: str, key: str) -> int:
    return TOP if object_ == FAR else OBJECTS.index(object_) * len(KEYS) + KEYS.index(key)
