"""The apps that carry out generated tasks: objects and services, whose handlers interpret the task they are given.

Each note changes the state of the key and publishes a record, so the state tells in what order a key did what, and the records
must tell the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from zlib import crc32

from odradek import App, Context, ObjectContext, RetryPolicy, SharedContext, TerminalError, current
from odradek._definition import OnError

from . import flows
from .concurrent import Concurrent
from .kept import KEPT_S
from .model import Wrong, of_steps
from .program import APP, BRIEF, DOOMED, FAR, HELD, OBJECTS, OTHER, TIMEOUT_S, Program, Task
from .replaying import renamed


class Outside:
    """The world outside the engine: it counts how often bodies and attempts have run."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        self.wrong: list[BaseException] = []
        self.picky: Any = None
        self.bulk: Any = None

    def fails(self, what: str, times: int) -> bool:
        self.attempts[what] += 1
        return self.attempts[what] <= times

    def step(self, name: str, times: int, seen: str = "") -> str:
        self.runs[name] += 1
        if self.fails(name, times):
            raise OSError(f"{name} fails")
        return f"did {name} #{self.runs[name]} after {seen}"  # each run's is another: see `model.compare`

    def heard(self, result: Any, seen: str) -> None:
        """A handler has been given the result of a step that it had asked for when it had seen this."""
        if isinstance(result, str) and result.startswith("did ") and not result.endswith(f" after {seen}"):
            self.wrong.append(Wrong(f"a handler was told {result!r}, of a run that had been asked for before it saw {seen!r}"))


class Performance:
    """One execution of one task."""

    def __init__(self, outside: Outside, program: Program, out: Any, ctx: Any, task: Task) -> None:
        self.outside, self.program, self.out, self.ctx, self.task = outside, program, out, ctx, task
        self.picky = outside.picky
        self.told: list[Any] = []
        self.seen: list[str] = []
        self.pending: list[tuple[int, Any, str]] = []

    async def play(self) -> list[Any]:
        for index, op in enumerate(self.task["ops"]):
            seen = self._seen_so_far()
            future = await getattr(self, f"_{op['op']}")(index, op)
            if future is not None:
                self.told.append(None)
                self.pending.append((len(self.told) - 1, future, seen))
                if not op.get("later"):
                    await self._join(index, op)
        await self._join(-1, {})
        self._write("end", done=of_steps(self.told))
        return [self.told, self.seen]

    def _write(self, what: str, **more: Any) -> None:
        ctx, token = self.ctx, f"{self.task['id']}:{what}"
        count = 0
        if isinstance(ctx, ObjectContext):
            log = ctx.get("log", list[str], [])
            count = len(log)
            ctx.set("log", [*log, token])
            ctx.publish(self.out, {"n": count, "token": token, "seen": self.seen, **more}, key=f"{ctx.key}@{self.task['at']}")
        else:
            ctx.publish(self.out, {"n": -1, "token": token, "seen": self.seen, **more}, key=f"@{self.task['at']}")

    async def _note(self, index: int, op: Task) -> Any:
        self._write(str(index))

    async def _mark(self, index: int, op: Task) -> Any:
        """A change of state that nothing outside shows, by a handler that catches what it can, a failing store too."""
        if not isinstance(self.ctx, ObjectContext):
            return
        try:
            marks = self.ctx.get("marks", list[str], [])
        except BaseException:  # noqa: BLE001  (what follows from it must never be committed)
            marks = ["caught"]
        self.ctx.set("marks", [*marks, f"{self.task['id']}:{index}"])

    async def _scratch(self, index: int, op: Task) -> Any:
        """Which name it writes depends on when it runs: nothing of a run that did not commit may be left."""
        if isinstance(self.ctx, ObjectContext):
            number = self.ctx.now().microsecond // 1000
            self.ctx.set(f"scratch{number % 3}", number)
            self.ctx.clear(f"scratch{(number + 1) % 3}")

    def _to(self, target: str) -> str:
        """The handler as it is called from here: one of the other app by its full name."""
        home = OTHER if target.startswith(f"{FAR}/") else APP
        here = OTHER if self.task["at"] == FAR else APP
        return target if home == here else f"{home}/{target}"

    async def _step(self, index: int, op: Task) -> Any:
        name, seen = f"{self.task['id']}:{index}", self._seen_so_far()
        early = crc32(name.encode()) % 3 == 0
        body = self.outside.step if op["sync"] else self._later_step
        return self.ctx.run(body, name, op["fails"], seen, name="step", returns=str, idempotent=early)

    async def _later_step(self, name: str, times: int, seen: str) -> str:
        return self.outside.step(name, times, seen)

    def _seen_so_far(self) -> str:
        """The results of steps by now: a run that was asked for after another result is another run."""
        return ",".join(each.split("#")[1].split()[0] for each in of_steps(self.told))

    async def _exhausted(self, index: int, op: Task) -> Any:
        name = f"{self.task['id']}:{index}"
        policy = RetryPolicy(max_attempts=op["attempts"])
        return self.ctx.run(self.outside.step, name, 1_000_000, name="exhausted", returns=str, retry=policy)

    async def _stumble(self, index: int, op: Task) -> Any:
        """The step's result comes while its task waits to be tried again."""
        name = f"{self.task['id']}:{index}"
        step = self.ctx.run(self.outside.step, name, 0, name="step", returns=str)
        await self.ctx.sleep(op["ms"] / 1000)
        if self.outside.fails(f"{name} stumbles", op["times"]):
            self._write(f"{index}:failed")
            raise RuntimeError(f"{name} stumbles")
        self.told.append(await step)

    async def _sleep(self, index: int, op: Task) -> Any:
        return self.ctx.sleep(op["ms"] / 1000)

    async def _nap(self, index: int, op: Task) -> Any:
        await self.ctx.sleep(op["ms"] / 1000)

    async def _call(self, index: int, op: Task) -> Any:
        if "pool" in op:
            object_, key, task = self.program.pool[op["pool"]]
            target = f"{APP}/{object_}/do" if index % 2 and object_ != FAR else self._to(f"{object_}/do")  # two names for the same
            return current().call(target, {**task, "at": object_}, key=key, returns=list[Any], idempotency_key=f"pool{op['pool']}")
        task = {**op["task"], "at": op["to"].split("/")[0]}
        return current().call(self._to(op["to"]), task, key=op["key"] or None, returns=list[Any])

    async def _shared(self, index: int, op: Task) -> Any:
        return current().call(self._to(op["to"]), key=op["key"], returns=str)

    async def _send(self, index: int, op: Task) -> Any:
        task = {**op["task"], "at": op["to"].split("/")[0]}
        delay = op["delay_ms"] / 1000 if op["delay_ms"] else None
        current().send(self._to(op["to"]), task, key=op["key"] or None, delay=delay)

    async def _burst(self, index: int, op: Task) -> Any:
        for task in op["tasks"]:
            current().send(self._to(op["to"]), {**task, "at": op["to"].split("/")[0]}, key=op["key"])
            if op["ms"]:
                await self.ctx.sleep(op["ms"] / 1000)

    async def _limited(self, index: int, op: Task) -> Any:
        return await (self._call if "later" in op else self._send)(index, op)

    async def _abroad(self, index: int, op: Task) -> Any:
        return await (self._call if "later" in op else self._send)(index, op)

    async def _late(self, index: int, op: Task) -> Any:
        return await self._call(index, op)

    async def _frail(self, index: int, op: Task) -> Any:
        return await self._call(index, op)

    async def _flow(self, index: int, op: Task) -> Any:
        key, call = flows.key_of(op["flow"]), current().call
        delay = op["told"] / 1000 if op["told"] else None
        current().send(self._to("wf/tell"), flows.word_of(op["flow"]), key=key, delay=delay)
        task = {"id": "", "flow": op["flow"]}
        match op["way"]:
            case "call":
                return call(self._to("wf/run"), task, key=key, returns=list[Any])
            case "wait":
                return call(self._to("wf/wait"), key=key, returns=str)
            case "attach":
                id_ = current().send(self._to("wf/run"), task, key=key)
                if self.task["at"] != FAR:  # an id is one of this app
                    return current().attach(id_, returns=list[Any])
                return call(self._to("wf/run"), task, key=key, returns=list[Any])
            case "send":
                current().send(self._to("wf/run"), task, key=key)
        return None

    async def _promise(self, index: int, op: Task) -> Any:
        return self.ctx.promise(flows.WORD)

    async def _awakeable(self, index: int, op: Task) -> Any:
        hook, value = self.ctx.awakeable(str), f"given to {self.task['id']}:{index}"
        if op["way"] == "self":
            give(self.ctx, hook.id, value, op["code"])
            give(self.ctx, hook.id, "too late", 0)
        else:
            delay = op["delay_ms"] / 1000 if op["delay_ms"] else None
            current().send(self._to("svc/give"), {"id": hook.id, "value": value, "code": op["code"]}, delay=delay)
        return hook

    async def _own(self, index: int, op: Task) -> Any:
        if not isinstance(self.ctx, ObjectContext):
            return
        try:
            current().call(f"{self.task['at']}/do", {}, key=self.ctx.key, returns=str)
        except TerminalError as error:
            self.told.append(error.code)

    async def _fail(self, index: int, op: Task) -> Any:
        if self.outside.fails(f"{self.task['id']}:{index}", op["times"]):
            self._write(f"{index}:failed")  # must never be seen: it fails before it waits
            raise RuntimeError(f"{self.task['id']}:{index} fails")

    async def _draw(self, index: int, op: Task) -> Any:
        drawn = {"now": self.ctx.now, "random": lambda: self.ctx.random.random(), "uuid": self.ctx.uuid}[op["what"]]()
        self.seen.append(str(drawn))

    async def _together(self, index: int, op: Task) -> Any:
        await self._concurrent(index, op).together(op["how"])

    async def _race(self, index: int, op: Task) -> Any:
        await self._concurrent(index, op).race()

    async def _deadline(self, index: int, op: Task) -> Any:
        await self._concurrent(index, op).deadline(op["within"] / 1000)

    def _concurrent(self, index: int, op: Task) -> Concurrent:
        seen = self._seen_so_far()
        self.told.append(op["draws"])

        def run(name: str, times: int) -> Any:
            return self.ctx.run(self.outside.step, name, times, seen, name="branch", returns=str)

        return Concurrent(f"{self.task['id']}:{index}", op["parts"], self.seen, run)

    async def _terminate(self, index: int, op: Task) -> Any:
        raise TerminalError(f"{self.task['id']} terminates", code=op["code"])

    async def _poison(self, index: int, op: Task) -> Any:
        self.ctx.publish(self.picky, "poison", key="k")

    async def _large(self, index: int, op: Task) -> Any:
        """Something of this size is made: it is refused where it is made, or it is there."""
        size, sub = op["size"], {"id": f"{self.task['id']}~{index}", "ops": [], "at": "svc"}
        try:
            match op["way"]:
                case "state" if isinstance(self.ctx, ObjectContext):
                    self.ctx.set("large", "x" * size)
                    self.told.append(len(self.ctx.get("large", str, "")))
                    return
                case "publish":
                    self.ctx.publish(self.outside.bulk, "x" * size, key="k")
                case "step":
                    self.told.append(len(await self.ctx.run(self._blank, size, name="large", returns=str)))
                    return
                case "argument":
                    await current().call("svc/do", {**sub, "pad": "x" * size}, returns=list[Any])
                case "send":
                    current().send("svc/do", {**sub, "pad": "x" * size})
                case "result":
                    await current().call("svc/do", {**sub, "ops": [{"op": "give", "size": size}]}, returns=list[Any])
                case _:
                    await self.ctx.run(self._complain, size, name="complain", returns=str)
            self.told.append(size)
        except TerminalError as error:
            self.told.append(error.code)

    async def _give(self, index: int, op: Task) -> Any:
        self.told.append("x" * op["size"])

    async def _blank(self, size: int) -> str:
        return "x" * size

    async def _complain(self, size: int) -> str:
        raise TerminalError("x" * size, code=418, metadata={f"m{n}": "x" * (size // 10) for n in range(10)})

    async def _join(self, index: int, op: Task) -> Any:
        pending, self.pending = self.pending, []
        for slot, future, seen in pending:
            try:
                self.told[slot] = await future
                self.outside.heard(self.told[slot], seen)
            except TerminalError as error:
                self.told[slot] = error.code


def give(ctx: Any, id_: str, value: str, code: int) -> None:
    """An awakeable is given a value, or an error of this code."""
    if code:
        ctx.reject(id_, value, code=code)
    else:
        ctx.resolve(id_, value)


def _named(ctx: Context, task: Task) -> Task:
    """The task as it is called where its record was delivered again."""
    try:
        replay = ctx.record.replay
    except LookupError:
        return task
    return renamed(task, replay) if replay else task


def build(program: Program, outside: Outside) -> App:
    """An app for one world; every worker of it runs it."""
    app = App(APP, shards=program.shards)
    out = app.topic("out", key=str, value=dict[str, Any])
    outside.picky = app.topic("picky", key=str, value=str)
    outside.bulk = app.topic("bulk", key=str, value=str)
    service = app.service("svc")
    for name in OBJECTS:
        _object(app, name, program, outside, out)
    if program.held:
        _held(app, program, outside, out)
    if program.doomed:
        _doomed(app, program, outside, out)

    async def serve(ctx: Context, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def served(ctx: Context, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def limited(ctx: Context, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def late(ctx: Context, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def frail(ctx: Context, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def given(ctx: Context, given: dict[str, Any]) -> None:
        give(ctx, given["id"], given["value"], given["code"])

    if program.flows:
        flows.declare(app, program, lambda ctx, task: Performance(outside, program, out, ctx, task).play())
    service.handler(name="do")(serve)
    service.handler(name="give")(given)
    service.on(app.topic("in-svc", value=dict[str, Any]))(served)
    app.service("lim").handler(name="do", concurrency=program.limit, journal_retention=KEPT_S)(limited)
    app.service("frail").handler(name="do", retry=RetryPolicy(max_attempts=2))(frail)
    app.service("tim").handler(name="do", timeout=TIMEOUT_S, journal_retention=KEPT_S)(late)
    return app


def build_other(program: Program, outside: Outside) -> App:
    """The other app: one object."""
    app = App(OTHER, shards=program.far_shards)
    out = app.topic("out", key=str, value=dict[str, Any])
    far = app.object(FAR)

    async def do(ctx: ObjectContext, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    far.handler(name="do")(do)
    return app


def _doomed(app: App, program: Program, outside: Outside, out: Any) -> None:
    """The object some of whose tasks are killed."""

    async def do(ctx: ObjectContext, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, task).play()

    app.object(DOOMED).handler(name="do", journal_retention=KEPT_S)(do)


def _held(app: App, program: Program, outside: Outside, out: Any) -> None:
    """The object whose bad records pause their key; a pair is played by two handlers, and the second part pauses nothing."""
    object_ = app.object(HELD)

    async def recorded(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def first(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def second(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, {**task["second"], "at": HELD})).play()

    object_.on(app.topic("in-held", value=dict[str, Any]), on_error="pause")(recorded)
    pair = app.topic("in-pair", value=dict[str, Any])
    object_.on(pair, on_error="pause")(first)
    object_.on(pair)(second)


def _object(app: App, name: str, program: Program, outside: Outside, out: Any) -> None:
    object_ = app.object(name)

    async def do(ctx: ObjectContext, task: dict[str, Any]) -> list[Any]:
        return await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def recorded(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def rekeyed(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def brief(ctx: ObjectContext, task: dict[str, Any]) -> None:
        await Performance(outside, program, out, ctx, _named(ctx, task)).play()

    async def peek(ctx: SharedContext) -> str:
        return f"peeked {len(ctx.get('log', list[str], [])) >= 0}"

    object_.handler(name="do")(do)
    letters = app.topic("letters", value=bytes)
    on_error: OnError = "skip" if name == "b" and program.skips else "dead_letter"
    topic = app.topic(f"in-{name}", value=dict[str, Any])
    object_.on(topic, on_error=on_error, dead_letter=letters if name == "b" else None)(recorded)
    if name == "a":
        object_.on(app.topic("in-keyed", value=dict[str, Any]), key=lambda task: task["key"])(rekeyed)
    if name == "b" and program.brief:
        object_.on(app.topic(BRIEF, value=dict[str, Any]))(brief)
    object_.shared(peek)
