"""Idempotent steps: they start before their cause is durable; what follows from one is as safe as what follows from any other."""

import pytest

from odradek import App, Context, step
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage


@step(idempotent=True)
async def more(n: int) -> int:
    return n + 1


@step
async def careful(n: int) -> int:
    return n + 1


def looking_up(stage: MakeStage, **settings: int) -> Stage:
    """`row/go` runs three idempotent steps in a row; `row/then` a careful one after an idempotent one.

    `row/left` and `row/late` await none.
    """
    app = App("row", shards=1)

    @app.handler
    async def go(ctx: Context) -> int:
        return await more(await more(await more(0)))

    @app.handler
    async def then(ctx: Context) -> int:
        return await careful(await more(0))

    @app.handler
    async def left(ctx: Context) -> str:
        ctx.run(more, 0)
        return "gone"

    @app.handler
    async def late(ctx: Context) -> str:
        ctx.run(more, 0)
        return await ctx.call(left)

    made = stage(app, **settings).open()
    made.member.sent.clear()
    return made


def test_they_start_in_the_turn_that_asks_and_nobody_hears_of_it_before_the_commit(stage: MakeStage) -> None:
    here = looking_up(stage)
    replies = here.ask("row/go")
    here.held()
    assert len(here.executor.submitted) == 1, "its cause is on its way, and not durable"
    for done in range(3):
        here.step_ends(here.executor.submitted[done], done + 1)
        here.turn()
    assert len(here.executor.submitted) == 3
    for _ in range(5):
        here.turn()
    assert replies == []

    here.until(lambda: replies)
    assert replies[0].value == b"3"
    assert len(here.member.sent) == 2, "three steps, and no commit of their own"


def test_a_careful_step_waits_for_what_an_idempotent_one_gave(stage: MakeStage) -> None:
    here = looking_up(stage)
    replies = here.ask("row/then")
    here.held()
    here.step_ends(here.executor.submitted[0], 1)
    for _ in range(5):
        here.turn()
    assert len(here.executor.submitted) == 1, "the result that it follows is not durable"
    here.let_through()
    here.held()
    for _ in range(5):
        here.turn()
    assert len(here.executor.submitted) == 1

    here.let_through()
    assert len(here.executor.submitted) == 2
    here.step_ends(here.executor.submitted[1], 2)
    here.until(lambda: replies)
    assert replies[0].value == b"2"


def test_what_came_of_a_step_whose_cause_was_dropped_is_nobodys(stage: MakeStage) -> None:
    """It runs again, perhaps with other arguments: only that run's result counts."""
    here = looking_up(stage)
    replies = here.ask("row/go")
    here.held()
    (dropped,) = here.executor.submitted
    here.refuse("aborted")
    here.until(lambda: len(here.executor.submitted) == 2)
    here.step_ends(dropped, 100)
    for _ in range(5):
        here.turn()
    assert len(here.executor.submitted) == 2, "its result is taken for nothing"
    for done in range(3):
        here.until(lambda done=done: len(here.executor.submitted) > done + 1)
        here.step_ends(here.executor.submitted[done + 1], done + 1)
    here.until(lambda: replies)
    assert replies[0].value == b"3"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_result_that_was_dropped_with_its_epoch_comes_again(stage: MakeStage, recorded: bool) -> None:
    """The second step follows the first one's result: when that is dropped, what the second gave is, too."""
    here = looking_up(stage)
    replies = here.ask("row/go")
    here.let_through()
    here.step_ends(here.executor.submitted[0], 1)
    here.held()
    second = here.executor.submitted[1]
    here.refuse("unknown", applied=recorded)
    here.until(lambda: len(here.executor.submitted) == 3)
    again = here.executor.submitted[2]
    assert (again.key == second.key) == recorded, "the first one's result is there, or the first one runs again"

    here.step_ends(second, 50)
    for _ in range(5):
        here.turn()
    assert len(here.executor.submitted) == 3
    for done in (2, 3) if recorded else (1, 2, 3):
        here.until(lambda: here.executor.submitted)
        here.step_ends(here.executor.submitted[-1], done)
        before = len(here.executor.submitted)
        here.until(lambda before=before: replies or len(here.executor.submitted) > before)
    here.until(lambda: replies)
    assert replies[0].value == b"3"


@pytest.mark.parametrize("handler", ["left", "late"])
def test_one_whose_handler_ends_in_the_same_turn_does_not_start(stage: MakeStage, handler: str) -> None:
    """Whether it has ended in the segment that asked for it, or after a wait that was over at once."""
    here = looking_up(stage)
    replies = here.ask(f"row/{handler}")
    here.until(lambda: replies)
    assert replies[0].value == b'"gone"'
    assert here.executor.submitted == []


def test_while_a_culprit_is_looked_for_they_wait_as_all_do(stage: MakeStage) -> None:
    here = looking_up(stage)
    here.machine.splitting = True
    here.ask("row/go")
    here.held()
    assert here.executor.submitted == []
    here.let_through()
    assert len(here.executor.submitted) == 1
