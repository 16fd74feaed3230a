"""The model: what must come out of a program, worked out from the program alone; and the comparison with what did.

Nothing here knows the engine. Each key's state is the list of the notes made there; the published records must tell the same
list; and the list must be one that tasks, run one after another, could have made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import flows
from .program import HELD, KEYED, LIMIT_BYTES, Entry, Op, Program, Task

Key = tuple[str, str]
AWAITED = ("step", "exhausted", "sleep", "call", "shared", "late", "frail", "awakeable", "promise")
"""Operations with a result that the task is told."""


class Wrong(AssertionError):
    """Something came out that must not, or did not come out."""


@dataclass(frozen=True)
class Result:
    """What a task returns: `told` with one item for each thing it heard of; how much it drew; or the code it failed with."""

    told: tuple[Any, ...] = ()
    drawn: int = 0
    code: int = 0


@dataclass
class Expected:
    """What must come out of a program."""

    tokens: dict[Key, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(dict))
    """By object and key (a service and ""), by task, its notes in order."""
    marks: dict[Key, Counter[str]] = field(default_factory=lambda: defaultdict(Counter[str]))
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    order: list[tuple[Key, list[str]]] = field(default_factory=list[tuple[Key, list[str]]])
    """Tasks that must come in this order at that key."""
    letters: Counter[str] = field(default_factory=Counter[str])
    """Tasks (or "topic raw") that must end as dead letters."""
    held: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By key that must be paused in the end: the task that is ("raw" if it is none), and those that wait behind it."""
    earliest_ms: dict[str, float] = field(default_factory=dict[str, float])
    """When a task may begin at the earliest: delays and sleeps before it are not cut short."""

    def add(self, where: Key, task: Task, at_ms: float = 0.0) -> Result:
        """A task that runs once at that place, not before that time."""
        self.earliest_ms[task["id"]] = at_ms
        tokens: list[str] = []
        told: list[Any] = []
        pending: list[tuple[int, Any]] = []
        drawn = code = kept = 0
        targets: dict[Key, list[str]] = defaultdict(list)
        for index, op in enumerate(task["ops"]):
            kind = op["op"]
            unkeyed = where[0] not in KEYED
            if kind == "note":
                tokens.append(f"{task['id']}:{index}")
            elif kind == "mark" and not unkeyed:
                self.marks[where][f"{task['id']}:{index}"] += 1
            elif kind == "draw":
                drawn += 1
            elif kind == "own" and not unkeyed:
                told.append(409)
            elif kind in ("large", "stumble"):
                told.append(self._large(task, index, op, unkeyed=unkeyed) if kind == "large" else f"did {task['id']}:{index}")
            told += ["x" * op["size"]] if kind == "give" else [op["draws"]] if "draws" in op else []
            drawn += op.get("draws", 0)
            code = _code(where, op)
            if code:
                dropped = where[0] == "frail" or kind == "poison" or "pauses" in task  # what it did since its last wait
                tokens = tokens[:kept] if dropped else tokens
                break
            self._subs(op, targets, at_ms)
            if kind == "sleep" and not op["later"]:
                at_ms += op["ms"]
                kept = len(tokens)
            at_ms += op["ms"] if kind in ("nap", "stumble") else 0
            if kind in AWAITED or (kind in ("limited", "abroad") and "later" in op) or op.get("way") in ("call", "wait", "attach"):
                pending.append((len(told), self._answer(task, index, op)))
                told.append(None)
        for slot, answer in pending:
            told[slot] = answer
        if not code:
            tokens.append(f"{task['id']}:end")
            code = max((413 for op in task["ops"] if op["op"] == "give" and op["size"] > LIMIT_BYTES), default=0)
        self.tokens[where][task["id"]] = tokens
        self.order += [(target, ids) for target, ids in targets.items() if target[0] in KEYED and len(ids) > 1]
        result = self.results[task["id"]] = Result((), 0, code) if code else Result(tuple(told), drawn)
        return result

    def _subs(self, op: Op, targets: dict[Key, list[str]], at_ms: float) -> None:
        """The tasks that it sends away."""
        for task in op.get("tasks", [op["task"]] if "task" in op else []):
            where = (op["to"].split("/")[0], op["key"])
            self.add(where, task, at_ms + op.get("delay_ms", 0))
            if not op.get("delay_ms"):
                targets[where].append(task["id"])

    def _large(self, task: Task, index: int, op: Op, *, unkeyed: bool) -> int:
        """What it is told of something large that it makes, with the note that a task makes for which it was called."""
        fits, way = op["size"] < LIMIT_BYTES, op["way"]
        if way == "reason":
            return 418
        if way == "result" or (way in ("argument", "send") and fits):
            sub = f"{task['id']}~{index}"
            self.tokens["svc", ""][sub] = [f"{sub}:end"]
            self.earliest_ms[sub] = 0.0
        return op["size"] if fits or (way == "state" and unkeyed) else 413

    def _answer(self, task: Task, index: int, op: Op) -> Any:
        match op["op"]:
            case "step":
                return f"did {task['id']}:{index}"
            case "exhausted":
                return 500
            case "sleep":
                return None
            case "promise":
                return flows.word_of(op["flow"])
            case "flow":
                return flows.word_of(op["flow"]) if op["way"] == "wait" else self.results[f"flow {op['flow']}"]
            case "awakeable":
                return op["code"] or f"given to {task['id']}:{index}"
            case "shared":
                return "peeked True"
            case _:
                return self.results[f"pool {op['pool']}" if "pool" in op else op["task"]["id"]]


def _code(where: Key, op: Op) -> int:
    """With what an operation ends its task, 0 if it does not."""
    if op["op"] in ("terminate", "poison"):
        return int(op.get("code", 500))
    if op["op"] == "fail" and where[0] == "frail":
        return 500
    return 504 if op["op"] == "sleep" and where[0] == "tim" else 0


def called_pool(program: Program) -> set[int]:
    """Which tasks of the pool anybody calls."""
    found: set[int] = set()

    def look(task: Task) -> None:
        for op in task["ops"]:
            if op["op"] in ("terminate", "poison"):
                return
            if "pool" in op:
                found.add(op["pool"])
            elif "task" in op:
                look(op["task"])

    for entry in program.entries:
        look(entry.task)
    return found


def expect(program: Program) -> Expected:
    """Work out what must come out."""
    expected = Expected()
    called = called_pool(program)
    for number, (object_, key, task) in enumerate(program.pool):
        if number in called:
            expected.results[f"pool {number}"] = expected.add((object_, key), task)
    for number in sorted(flows.used(program)):
        expected.results[f"flow {number}"] = expected.add((flows.FLOW, flows.key_of(number)), program.flows[number])
    queues: dict[tuple[Key, str, str], list[str]] = defaultdict(list)
    for entry in program.entries:
        if entry.task.get("doomed"):
            expected.results[entry.task["id"]] = Result((), 0, 409)
            continue
        if entry.target == f"{HELD}/do":
            hold(expected, entry)
            continue
        if entry.topic in (flows.STARTS, flows.TELLS):
            continue
        skipped = program.skips and entry.topic == "in-b"
        if entry.raw is not None:
            expected.letters.update([] if skipped else [letter(entry.replay, f"{entry.topic} raw")])
            continue
        where = (entry.target.split("/")[0], entry.key)
        result = expected.add(where, entry.task, entry.at_ms + entry.delay_ms)
        if entry.topic and result.code and not skipped:
            expected.letters[entry.task["id"]] += 1
        if entry.topic and entry.key:
            queues[where, entry.topic, entry.replay].append(entry.task["id"])
    expected.order += [(where, tasks) for (where, _, _), tasks in queues.items()]
    return expected


def letter(replay: str, name: str) -> str:
    """By what a dead letter is counted, of a record that was delivered again, perhaps."""
    return f"{replay}/{name}" if replay else name


def hold(expected: Expected, entry: Entry) -> None:
    """A record for the object whose bad records pause their key; of a pair, the second part pauses nothing."""
    where = (HELD, entry.key)
    tasks = [entry.task] if "second" not in entry.task else [entry.task, entry.task["second"]]
    for number, task in enumerate(tasks):
        if entry.key in expected.held:
            expected.held[entry.key].append(entry.task["id"] or "raw")
        elif entry.raw is not None:
            expected.held[entry.key] = ["raw"]
        elif expected.add(where, task, entry.at_ms).code:
            if number == 0:
                expected.held[entry.key] = [entry.task["id"]]
            else:
                expected.letters[entry.task["id"]] += 1


@dataclass
class Outcome:
    """What did come out."""

    logs: dict[Key, list[str]]
    """The state of every key."""
    marks: dict[Key, Counter[str]]
    """The other state of every key: changes that were not published."""
    records: list[tuple[Key, dict[str, Any], float]]
    """What was published and when, in the order of its partitions."""
    letters: Counter[str]
    clocks_ms: float
    """How far the workers' clocks were apart."""
    replies: dict[str, Any]
    """By task: [told, seen], or a code."""
    held: dict[str, list[str]]
    """By key that is paused: the task that is, and those that wait behind it."""


def compare(expected: Expected, outcome: Outcome) -> None:
    """Raises Wrong for the first thing that differs."""
    published: dict[Key, list[str]] = defaultdict(list)
    seen: dict[str, list[str]] = {}
    ends: dict[str, Any] = {}
    for where, record, at_ms in outcome.records:
        task = record["token"].split(":")[0]
        if at_ms < expected.earliest_ms.get(task, 0.0) - outcome.clocks_ms:
            raise Wrong(f"{task} noted something at {at_ms} ms and could not begin before {expected.earliest_ms[task]}")
        if where[0] in KEYED and record["n"] != len(published[where]):
            raise Wrong(f"{where}: record {record} is number {len(published[where])} that was published")
        published[where].append(record["token"])
        _prefix(task, seen.get(task, []), record["seen"])
        ends[task] = record.get("done")
        seen[task] = max(seen.get(task, []), record["seen"], key=len)
    for where in sorted(expected.tokens.keys() | published.keys() | outcome.logs.keys()):
        _tokens(where, expected.tokens.get(where, {}), published[where])
        if where[0] in KEYED:
            if outcome.logs.get(where, []) != published[where]:
                raise Wrong(f"{where}: the state says {outcome.logs.get(where)}, the records say {published[where]}")
            _whole(where, published[where])
    for where, tasks in expected.order:
        _ordered(where, tasks, published[where])
    for what, found, wanted in (
        ("marks", outcome.marks, dict(expected.marks)),
        ("dead letters", outcome.letters, expected.letters),
        ("paused keys and what waits there", outcome.held, expected.held),
    ):
        if found != wanted:
            raise Wrong(f"{what}: {found}, expected {wanted}")
    for task, reply in outcome.replies.items():
        _same(task, expected.results[task], reply)
        if isinstance(reply, list) and task in seen:
            _as_published(task, seen[task], ends[task], reply)


def of_steps(told: list[Any]) -> list[str]:
    """What came of its steps, each run of which gives another result."""
    return [each for each in told if isinstance(each, str) and each.startswith("did ")]


def _as_published(task: str, seen: list[str], done: list[str], reply: list[Any]) -> None:
    """Whoever asked is told what was committed, not what came of a run that was dropped with its epoch."""
    _prefix(task, seen, reply[1])
    if of_steps(reply[0]) != done:
        raise Wrong(f"{task}: was told {done} where it was committed, and somebody else {reply[0]}")


def _tokens(where: Key, tasks: dict[str, list[str]], published: list[str]) -> None:
    wanted = Counter(token for tokens in tasks.values() for token in tokens)
    found = Counter(published)
    if wanted != found:
        raise Wrong(f"{where}: lost {sorted((wanted - found).elements())}, more than once {sorted((found - wanted).elements())}")
    for task, tokens in tasks.items():
        mine = [token for token in published if token.split(":")[0] == task]
        if where[0] in KEYED and mine != tokens:
            raise Wrong(f"{where}: task {task} noted {mine}, expected {tokens}")


def _whole(where: Key, published: list[str]) -> None:
    """One task at a time holds a key."""
    done: set[str] = set()
    last = ""
    for token in published:
        task = token.split(":")[0]
        if task != last and task in done:
            raise Wrong(f"{where}: {task} was interrupted: {published}")
        done.add(task)
        last = task


def _ordered(where: Key, tasks: list[str], published: list[str]) -> None:
    came = list(dict.fromkeys(token.split(":")[0] for token in published))
    mine = [task for task in came if task in tasks]
    wanted = [task for task in tasks if task in came]
    if mine != wanted:
        raise Wrong(f"{where}: tasks came as {mine}, in order they are {wanted}")


def _prefix(task: str, before: list[str], now: list[str]) -> None:
    short, long = sorted((before, now), key=len)
    if long[: len(short)] != short:
        raise Wrong(f"{task} drew {before} and then {now}")


def _same(task: str, wanted: Any, got: Any) -> None:
    if isinstance(wanted, Result):
        if wanted.code:
            if got != wanted.code:
                raise Wrong(f"{task}: failed with {wanted.code}, but somebody was told {got}")
            return
        if not isinstance(got, list) or len(got) != 2:
            raise Wrong(f"{task}: somebody was told {got}, expected {wanted}")
        told, seen = got
        if len(seen) != wanted.drawn or len(told) != len(wanted.told):
            raise Wrong(f"{task}: somebody was told {got}, expected {wanted}")
        for one, other in zip(wanted.told, told, strict=True):
            _same(task, one, other)
    elif wanted != (got.partition(" #")[0] if isinstance(got, str) else got):
        raise Wrong(f"{task}: somebody was told {got!r}, expected {wanted!r}")


def entries_of(program: Program) -> Iterator[str]:
    """The ids of the tasks that come from outside."""
    return (entry.task["id"] for entry in program.entries)
