"""Random programs on a few keys, with workers that stop and crash between: totals and order as a simple model says.

A program is a list of actions that one invocation performs in turn; the model performs them once, in the order of the inbox.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from odradek import App, ObjectContext, RetryPolicy
from odradek_runtime.log.embedded import EmbeddedLog
from tests.engine.harness import Rig

Action = Literal["add", "publish", "step", "sleep", "call", "send", "fail once", "names", "start step", "await step", "look"]
ACTIONS: list[Action] = [
    "add", "publish", "step", "sleep", "call", "send", "fail once", "names", "start step", "await step", "look",
]  # fmt: skip
KEYS = ("a", "b", "c")


@dataclass
class Program:
    number: int
    actions: list[Action] = field(default_factory=list[Action])


def machine(failed: set[tuple[int, int]]) -> App:  # noqa: C901  (one case for each action)
    app = App("programs", shards=2)
    inputs, out, thing = app.topic("in", value=Program), app.topic("out", value=list[int]), app.object("thing")
    helper = app.object("helper")

    async def double(n: int) -> int:
        return 2 * n

    @thing.on(inputs)
    async def run(ctx: ObjectContext, program: Program) -> None:  # noqa: C901  (as above)
        open_steps: list[Any] = []
        for place, action in enumerate(program.actions):
            match action:
                case "add":
                    ctx.set("total", ctx.get("total", int, 0) + 1)
                case "publish":
                    ctx.publish(out, [program.number, place], key=ctx.key)
                case "step":
                    assert await ctx.run(double, place) == 2 * place
                case "start step":
                    open_steps.append((place, ctx.run(double, place)))
                case "await step":
                    if open_steps:
                        begun, step = open_steps.pop(0)
                        assert await step == 2 * begun
                case "sleep":
                    await ctx.sleep(0.004)
                case "call":
                    assert await ctx.call(count, key=ctx.key) > 0
                case "send":
                    ctx.send(count, key=ctx.key)
                case "names":
                    assert set(ctx.names()) <= {"total"}
                case "look":
                    assert ctx.get("total", int, 0) >= 0
                    ctx.now()
                case "fail once":
                    if (program.number, place) not in failed:
                        failed.add((program.number, place))
                        raise ValueError("once")
        ctx.publish(out, [program.number, -1], key=ctx.key)

    @helper.handler
    async def count(ctx: ObjectContext) -> int:
        total = ctx.get("total", int, 0) + 1
        ctx.set("total", total)
        return total

    for handler in app.handlers().values():
        handler.retry = RetryPolicy(initial=0.001, max_delay=0.002)
    return app


Round = tuple[list[tuple[str, list[Action]]], Literal["stop", "crash", "crash at once", "go on"]]
ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(KEYS), st.lists(st.sampled_from(ACTIONS), max_size=6)), min_size=1, max_size=8),
        st.sampled_from(["stop", "crash", "crash at once", "go on"]),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("cache", [10_000, 0], ids=["kept", "replayed"])
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.generate],
)
@given(rounds=ROUNDS)
def test_programs_do_what_the_model_says(cache: int, rounds: list[Round]) -> None:
    rig = Rig(EmbeddedLog(None, fsync=False, clean_interval_s=0), None, cache)
    try:
        check(rig, rounds)
    finally:
        rig.close()


def check(rig: Rig, rounds: list[Round]) -> None:
    failed: set[tuple[int, int]] = set()
    app = machine(failed)
    rig.start(app)
    programs: list[tuple[str, Program]] = []
    for batch, ending in rounds:
        fresh = [(key, Program(len(programs) + n, actions)) for n, (key, actions) in enumerate(batch)]
        programs += fresh
        rig.publish("in", *fresh)
        if ending != "crash at once":
            done = {program.number for _, program in fresh[:2]}
            rig.until(lambda done=done: done & ended(rig))
        if ending != "go on":
            rig.restart(app, crash=ending != "stop")
    rig.until(lambda: len(ended(rig)) == len(programs))
    rig.settled(app)
    rig.until(lambda: rig.journal(app) == {})
    for key in KEYS:
        mine = [program for other, program in programs if other == key]
        told = [tuple(v) for v, k in zip(rig.values("out"), keys_of(rig), strict=True) if k == key.encode()]
        assert told == [entry for program in mine for entry in published(program)]
        assert (rig.state(app, "thing", key, "total") or 0) == sum(p.actions.count("add") for p in mine)
        helped = sum(p.actions.count("call") + p.actions.count("send") for p in mine)
        assert (rig.state(app, "helper", key, "total") or 0) == helped
    assert rig.dead_letters(app) == []


def ended(rig: Rig) -> set[int]:
    return {number for number, place in rig.values("out") if place == -1}


def keys_of(rig: Rig) -> list[bytes | None]:
    return [message.key() for message in rig.records("out")]


def published(program: Program) -> list[tuple[int, int]]:
    places = [place for place, action in enumerate(program.actions) if action == "publish"]
    return [(program.number, place) for place in [*places, -1]]
