"""An app whose invocations wait for everything that one can wait for, and a way to have one of each."""

import threading
from dataclasses import dataclass, field

from odradek import App, Context, Object, ObjectContext, RetryPolicy, TerminalError
from tests.engine.harness import Rig

LATER = RetryPolicy(initial=3600.0, max_delay=3600.0)
ONCE = RetryPolicy(initial=0.001, max_attempts=1)
NAMES = ("step", "again", "sleep", "call", "inbox", "backoff", "delay", "limit", "paused", "record")
"""What they wait for. `again`: another run of a step; `record`: a sleep, of one that a record started."""


@dataclass
class Outside:
    """What is not the app's: steps wait for `gate`; what ran is noted in `ran`."""

    gate: threading.Event = field(default_factory=threading.Event)
    ran: list[str] = field(default_factory=list[str])


def make_app(outside: Outside, shards: int = 2) -> App:
    app = App("states", shards=shards)
    thing = app.object("thing")
    _waiting(app, thing, outside)
    _unwell(app, thing, outside)
    return app


def _waiting(app: App, thing: Object, outside: Outside) -> None:
    def held() -> str:
        assert outside.gate.wait(60)
        return "held"

    @thing.handler
    async def step(ctx: ObjectContext) -> str:
        await ctx.run(held, name="held")
        outside.ran.append("step")
        return "stepped"

    @thing.handler
    async def sleep(ctx: ObjectContext) -> str:
        await ctx.sleep(3600)
        outside.ran.append("sleep")
        return "slept"

    @thing.handler
    async def call(ctx: ObjectContext) -> str:
        slept = await ctx.call("thing/sleep", key=f"{ctx.key}-callee", returns=str)
        outside.ran.append("call")
        return slept

    @thing.handler
    async def quick(ctx: ObjectContext) -> str:
        outside.ran.append("quick")
        return "quick"

    @app.handler(concurrency=1)
    async def narrow(ctx: Context) -> str:
        await ctx.run(held, name="held")
        outside.ran.append("narrow")
        return "narrowed"

    assert all(map(callable, (step, sleep, call, quick, narrow)))


def _unwell(app: App, thing: Object, outside: Outside) -> None:
    records = app.topic("states-in", value=str)

    def fails() -> None:
        raise OSError("the disk is full")

    @thing.handler
    async def again(ctx: ObjectContext) -> None:
        await ctx.run(fails, name="fails", retry=LATER)
        outside.ran.append("again")

    @thing.handler(retry=LATER)
    async def backoff(ctx: ObjectContext) -> str:
        outside.ran.append("attempt")
        if outside.gate.is_set():
            return "backed off"
        raise ValueError("not now")

    @thing.handler(retry=ONCE, on_exhausted="pause")
    async def paused(ctx: ObjectContext) -> str:
        if outside.gate.is_set():
            return "went on"
        raise ValueError("nobody knows how")

    @thing.on(records)
    async def record(ctx: ObjectContext, value: str) -> None:
        if value == "bad":
            raise TerminalError("bad")
        await ctx.sleep(3600)
        outside.ran.append("record")

    assert all(map(callable, (again, backoff, paused, record)))


def begin(rig: Rig, app: App, name: str) -> str:
    """One that waits for this, of the key of the same name; gives its id when that is committed."""
    match name:
        case "inbox":
            rig.ask("thing/sleep", key="inbox", wait=False).reply()
            id_ = rig.ask("thing/quick", key="inbox", wait=False).id
        case "delay":
            id_ = rig.ask("thing/quick", key="delay", wait=False, after_s=3600).id
        case "limit":
            rig.ask("states/narrow", wait=False).reply()
            id_ = rig.ask("states/narrow", wait=False).id
        case "record":
            rig.publish("states-in", ("record", "good"))
            id_ = ""
        case _:
            id_ = rig.ask(f"thing/{name}", key=name, wait=False).id
    rig.until(lambda: found(rig, app, name, id_))
    return found(rig, app, name, id_)


def found(rig: Rig, app: App, name: str, id_: str) -> str:
    """Its id, once it stands where it is to stand; else empty."""
    status = {"inbox": "inboxed", "backoff": "backing_off", "delay": "scheduled", "limit": "scheduled", "paused": "paused"}
    journal = rig.journal(app)
    for stored in rig.invocations(app):
        mine = stored.id == id_ or (not id_ and stored.target == f"thing/{name}")
        if not mine or stored.status != status.get(name, "running"):
            continue
        waits = name in status or any(key.startswith(b"j" + stored.id.encode()) for key in journal)
        callee = [each for each in rig.invocations(app) if each.key == f"{name}-callee".encode() and each.status == "running"]
        if waits and (name != "call" or callee):
            return stored.id
    return ""
