"""One at a time for each key: the inbox keeps the order, also across restarts, and shared handlers pass it by."""

import threading
from typing import Any

import pytest

from odradek import App, ObjectContext, SharedContext, TerminalError
from tests.engine.harness import Rig


def queue(gate: threading.Event | None = None) -> App:
    """Each invocation notes its number, waits twice, and notes it again."""
    app = App("queue", shards=2)
    inputs, out, desk = app.topic("in", value=int), app.topic("out", value=str), app.object("desk")

    async def serve(ctx: ObjectContext, n: int) -> int:
        served = (ctx.get("served", list[int]) or []) + [n]
        ctx.publish(out, f"{n} begins", key=ctx.key)
        await ctx.sleep(0.015)
        if gate is not None:
            await ctx.run(gate.wait)
        ctx.set("served", served)
        ctx.publish(out, f"{n} ends", key=ctx.key)
        return n

    @desk.on(inputs)
    async def take(ctx: ObjectContext, n: int) -> None:
        await serve(ctx, n)

    @desk.handler
    async def serve_one(ctx: ObjectContext, n: int) -> int:
        return await serve(ctx, n)

    @desk.shared
    async def look(ctx: SharedContext) -> list[int]:
        await ctx.sleep(0.001)
        return ctx.get("served", list[int]) or []

    @desk.shared
    async def write(ctx: Any) -> None:
        try:
            ctx.set("served", [])
        except AttributeError as error:
            raise TerminalError(str(error), code=405) from error

    return app


def told(rig: Rig, key: str) -> list[str]:
    return [(m.value() or b"").decode() for m in rig.records("out") if m.key() == key.encode()]


def in_order(numbers: list[int]) -> list[str]:
    return [f"{n} {what}" for n in numbers for what in ("begins", "ends")]


def test_first_come_first_served(rig: Rig) -> None:
    app = queue()
    rig.start(app)
    rig.publish("in", *[(f"k{n % 3}", n) for n in range(18)])
    asked = [rig.ask("desk/serve_one", 100 + n, key=f"k{n}") for n in range(3)]
    assert [one.value() for one in asked] == [100, 101, 102]
    rig.until(lambda: len(rig.records("out")) == 42)
    rig.until(lambda: not [i for i in rig.invocations(app) if i.status not in ("completed", "failed")])
    for key in range(3):
        spoken = told(rig, f"k{key}")
        began = [int(text.split()[0]) for text in spoken if text.endswith("begins")]
        assert spoken == in_order(began), "one at a time"
        assert [n for n in began if n < 100] == list(range(key, 18, 3)), "records in their order"
    assert not [k for k in rig.journal(app) if k[:1] in b"lqj"], "no lock, slot or journal is left"


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_the_order_outlives_the_worker(disk_rig: Rig, crash: bool) -> None:
    rig, gate = disk_rig, threading.Event()
    app = queue(gate)
    rig.start(app)
    rig.publish("in", *[("k", n) for n in range(6)])
    rig.settled(app)
    asked = rig.ask("desk/serve_one", 100, key="k")
    rig.until(lambda: len([i for i in rig.invocations(app) if i.status == "inboxed"]) == 6)
    rig.publish("in", *[("k", n) for n in range(6, 9)])
    rig.settled(app)
    if crash:
        rig.crash()
    else:
        rig.stop()
    gate.set()
    rig.start(app)
    order = [0, 1, 2, 3, 4, 5, 100, 6, 7, 8]
    rig.until(lambda: told(rig, "k") == in_order(order))
    assert rig.attach(asked.id).value() == 100
    assert rig.call("desk/look", key="k") == order
    assert not [k for k in rig.journal(app) if k[:1] in b"lqj"]


def test_shared_handlers_run_while_the_key_is_held_and_cannot_write(rig: Rig) -> None:
    gate = threading.Event()
    app = queue(gate)
    rig.start(app)
    held = rig.ask("desk/serve_one", 1, key="k")
    rig.until(lambda: told(rig, "k") == ["1 begins"])
    assert rig.call("desk/look", key="k") == []
    failure = rig.ask("desk/write", key="k").reply().failure
    assert failure is not None and failure.code == 405
    assert held.replies == []
    gate.set()
    assert held.value() == 1
    assert rig.call("desk/look", key="k") == [1]


def test_the_next_in_the_inbox_may_fail_or_be_bad_and_the_key_goes_on(rig: Rig) -> None:
    app = App("bad-next", shards=1)
    inputs, out, thing = app.topic("in", value=int), app.topic("out", value=int), app.object("thing")

    @thing.on(inputs)
    async def take(ctx: ObjectContext, n: int) -> None:
        await ctx.sleep(0.01)
        if n == 3:
            raise TerminalError("three")
        ctx.publish(out, n)

    rig.start(app)
    rig.publish("in", ("k", 1), ("k", b"{"), ("k", 3), ("k", b'"text"'), ("k", 5))
    rig.until(lambda: rig.values("out") == [1, 5])
    rig.until(lambda: rig.journal(app) == {})
    assert [letter["value"] for letter in rig.dead_letters(app)] == ["{", "3", '"text"']
