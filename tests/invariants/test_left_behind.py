"""What has ended leaves no object behind, however it ended: counted with the cycle collector off."""

import gc
import logging
from collections.abc import Iterator

import pytest

from odradek import App, Context, RetryPolicy, TerminalError, step
from odradek_runtime.core.running.invocation import Live
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage

MANY = 20


@pytest.fixture
def uncollected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL + 1, "odradek")  # pytest keeps what is logged, tracebacks included
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> dict[str, int]:
    """How many objects of an invocation there are."""
    found = {"Live": 0, "Context": 0, "Future": 0, "coroutine": 0}
    for each in gc.get_objects():
        if isinstance(each, Live):
            found["Live"] += 1
        elif isinstance(each, Context):
            found["Context"] += 1
        elif type(each).__name__ in ("Future", "Call"):
            found["Future"] += 1
        elif type(each).__name__ == "coroutine":
            found["coroutine"] += 1
    return found


def app() -> App:
    made = App("ends", shards=1)

    @step
    async def work() -> int:
        return 1

    @made.handler
    async def returns(ctx: Context) -> None:
        await ctx.sleep(1)

    @made.handler
    async def fails(ctx: Context) -> None:
        future = ctx.sleep(1)
        await future
        raise TerminalError("no")

    @made.handler(retry=RetryPolicy(max_attempts=2, initial=1), on_exhausted="fail")
    async def raises(ctx: Context) -> None:
        future = ctx.sleep(1)
        await future
        raise OSError("no")

    @made.handler
    async def told(ctx: Context) -> None:
        future = ctx.run(work)
        try:
            await future
        except TerminalError:
            await ctx.sleep(1)

    @made.handler
    async def passes_on(ctx: Context) -> None:
        future = ctx.run(work)
        await future

    return made


def ended(here: Stage, target: str) -> None:
    """One after the other, to its end."""
    replies = here.ask(target)
    submitted = len(here.executor.submitted)
    for _ in range(6):
        here.until(lambda: here.quiet)
        for run in here.executor.submitted[submitted:]:
            here.step_fails(run, TerminalError("no"))
        submitted = len(here.executor.submitted)
        here.turn()
        here.until(lambda: here.quiet)
        here.later(1_001)
        here.turn()
        here.until(lambda: here.quiet)
    assert replies
    here.executor.submitted.clear()


@pytest.mark.parametrize("how", ["returns", "fails", "raises", "told", "passes_on"])
@pytest.mark.parametrize("cache", [0, 100])
def test_what_has_ended_leaves_nothing_behind(stage: MakeStage, uncollected: None, how: str, cache: int) -> None:
    here = stage(app(), coroutine_cache=cache).open()
    ended(here, f"ends/{how}")
    before = left()
    for _ in range(MANY):
        ended(here, f"ends/{how}")
    after = left()
    assert {name: after[name] - count for name, count in before.items()} == dict.fromkeys(before, 0)
