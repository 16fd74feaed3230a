"""Idempotent steps: they start before their cause is durable; what follows from one is as safe as what follows from any other."""

import asyncio
import gc

import pytest

from odradek import App, Context, ObjectContext, State, step
from odradek_runtime.core.records import keys
from odradek_runtime.worker.engine.drain import DRAIN_MS, DRAINED_MS, URGENT_DRAIN_MS
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
    async def strict(ctx: Context) -> int:
        return await careful(0)

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


def counting(stage: MakeStage) -> Stage:
    """`tally` counts its records by key, a step before each."""
    app = App("sums", shards=1)
    words, said = app.topic("sums-in", value=int), State("words", str, default="")

    @app.object("tally").on(words)
    async def add(ctx: ObjectContext, number: int) -> None:
        await more(0)
        ctx.set(said, ctx.get(said) + str(number))

    made = stage(app, epoch_linger_s=10.0, epoch_backlog_s=10.0)

    rest(made)
    made.member.sent.clear()
    return made


def rest(here: Stage) -> None:
    """Let time pass until all is committed."""

    def resting() -> bool:
        here.later(1_000)
        return len(here.machine.shards) == 1 and here.quiet

    here.until(resting)


def journal_of(here: Stage) -> dict[bytes, bytes | None]:
    """What the first commit that was sent says in the journal, but where the shard stands."""
    return {key: value for key, value in here.member.sent[0].journal[0] if key != keys.POSITIONS}


def test_a_request_whose_quick_steps_end_in_time_waits_for_one_commit(stage: MakeStage) -> None:
    here = looking_up(stage)
    here.executor.load = 1
    replies = here.ask("row/go")
    for done in range(3):
        here.until(lambda done=done: len(here.executor.submitted) == done + 1, commits=False)
        assert here.member.held is None
        assert 0 < here.engine.patience_s() <= URGENT_DRAIN_MS / 1000
        here.step_ends(here.executor.submitted[done], done + 1)
    here.until(lambda: replies)
    assert (len(here.member.sent), replies[0].value) == (1, b"3")


def test_a_request_whose_steps_are_slow_is_not_kept_waiting(stage: MakeStage) -> None:
    here = looking_up(stage)
    here.executor.load = 1
    here.ask("row/go")
    here.until(lambda: here.executor.submitted, commits=False)
    here.later(URGENT_DRAIN_MS + 0.1)
    here.turn()
    assert here.member.held is not None


def test_a_strict_step_is_not_kept_waiting_for_others(stage: MakeStage) -> None:
    here = looking_up(stage)
    here.ask("row/strict")
    here.executor.load = 1
    here.until(lambda: here.member.held is not None, commits=False)
    assert here.steady_ms == 0, "no time has passed"


def test_what_begins_and_ends_within_an_epoch_leaves_nothing_but_what_it_did(stage: MakeStage) -> None:
    here = counting(stage)
    here.publish("sums-in", ("k", 1), ("k", 2), ("l", 3))
    here.until(lambda: len(here.executor.submitted) == 2, commits=False)  # b waits for its key
    here.step_ends(here.executor.submitted[0], 1)
    here.until(lambda: len(here.executor.submitted) == 3, commits=False)
    here.step_ends(here.executor.submitted[1], 1)
    here.step_ends(here.executor.submitted[2], 1)
    here.until(lambda: not here.machine.keeping.journaled and not here.machine.shards[0].locks.held, commits=False)
    assert here.member.held is None, "all of it in one epoch"
    rest(here)
    assert len(here.member.sent) == 1
    assert journal_of(here) == {}, "no entry, no lock, no timer, and nothing that deletes them"
    assert dict(here.member.sent[0].state[0]) == {b"tally/k/words": b'"12"', b"tally/l/words": b'"3"'}


def test_an_epoch_stays_open_a_little_for_steps_that_run_to_end_within_it(stage: MakeStage) -> None:
    here = counting(stage)
    here.publish("sums-in", ("k", 1))
    here.until(lambda: here.executor.submitted, commits=False)
    here.executor.load = 1
    here.later(10_001)
    for _ in range(5):
        here.turn()
    assert here.member.held is None
    assert 0 < here.engine.patience_s() <= DRAIN_MS / 1000
    here.publish("sums-in", ("l", 2))
    here.until(lambda: here.engine.intake.waiting, commits=False)
    assert len(here.executor.submitted) == 1, "it takes nothing in meanwhile"
    here.executor.load = 0
    here.step_ends(here.executor.submitted[0], 1)
    assert here.held().journal[0] == [(keys.POSITIONS, here.held().journal[0][0][1])]


def test_it_stays_open_while_one_after_the_other_ends_but_not_for_ever(stage: MakeStage) -> None:
    here, pause_ms = counting(stage), DRAIN_MS - 5
    count = int(DRAINED_MS / pause_ms) + 2
    here.publish("sums-in", *[(f"k{number}", 1) for number in range(count)])
    here.until(lambda: len(here.executor.submitted) == count, commits=False)
    here.executor.load = count
    here.later(10_001)
    here.turn()
    for number in range(count - 1):
        assert here.member.held is None, f"{number} have ended, each within {DRAIN_MS} ms of the last"
        here.later(pause_ms)
        here.step_ends(here.executor.submitted[number], 1)
        here.turn()
    assert sum(key[:1] == b"i" for key in dict(here.held().journal[0])) == 1, "and what has not ended by then is written"


def test_it_does_not_where_steps_are_too_slow_for_that(stage: MakeStage) -> None:
    here = counting(stage)
    waited: list[bool] = []
    for number in range(3):
        here.publish("sums-in", (f"k{number}", 1))
        here.until(lambda: len(here.executor.submitted) == number + 1, commits=False)  # noqa: B023
        here.executor.load = 1
        here.later(10_001)
        here.turn()
        waited.append(here.member.held is None)
        here.later(DRAIN_MS + 1)
        here.held()
        here.until(lambda: here.quiet)
    assert waited == [True, False, False]


def test_what_still_waits_when_its_epoch_closes_is_written_then(stage: MakeStage) -> None:
    here = counting(stage)
    here.publish("sums-in", ("k", 1), ("k", 2))
    here.until(lambda: here.executor.submitted, commits=False)
    here.later(20_000)
    here.held()
    assert sorted(key[:1] for key in journal_of(here)) == [b"i", b"i", b"j", b"l", b"q", b"t"]
    rest(here)
    here.step_ends(here.executor.submitted[0], 1)
    here.until(lambda: len(here.executor.submitted) == 2)
    here.step_ends(here.executor.submitted[1], 1)
    rest(here)
    assert not here.machine.shards[0].locks.held
    assert here.machine.shards[0].read(b"stally/k/words") == b'"12"'


def test_an_idempotent_step_that_fails_at_once_runs_again(stage: MakeStage) -> None:
    """Its invocation is not in the journal yet when the timer of its next attempt is set."""
    here = counting(stage)
    here.publish("sums-in", ("k", 1))
    here.until(lambda: here.executor.submitted, commits=False)
    here.step_fails(here.executor.submitted[0], ConnectionError("not now"))
    here.turn()
    here.later(20_000)
    here.until(lambda: len(here.executor.submitted) == 2)
    assert here.executor.submitted[1].attempt == 1
    here.step_ends(here.executor.submitted[1], 1)
    rest(here)
    assert here.machine.shards[0].read(b"stally/k/words") == b'"1"'


def test_what_has_begun_to_wait_in_an_epoch_that_fails_begins_anew(stage: MakeStage) -> None:
    here = counting(stage)
    here.publish("sums-in", ("k", 1))
    here.until(lambda: here.executor.submitted, commits=False)
    here.later(20_000)
    here.held()
    here.refuse()
    here.until(lambda: len(here.executor.submitted) == 2)
    here.step_ends(here.executor.submitted[0], 1)  # of the epoch that never was
    here.turn()
    assert here.machine.shards[0].read(b"stally/k/words") is None
    here.step_ends(here.executor.submitted[1], 1)
    rest(here)
    assert here.machine.shards[0].read(b"stally/k/words") == b'"1"'


def test_one_that_stood_in_line_and_awaits_what_is_refused_is_left_at_once(stage: MakeStage) -> None:
    """Its `finally` runs where it ends, not when its coroutine happens to be collected."""
    app, left = App("lines", shards=1), list[object]()

    @app.object("one").on(app.topic("lines-in", value=int))
    async def go(ctx: ObjectContext, number: int) -> None:
        try:
            if number == 2:
                await asyncio.to_thread(str)
            await more(0)
        finally:
            left.append(number)

    here = stage(app, epoch_linger_s=10.0, epoch_backlog_s=10.0)
    rest(here)
    here.publish("lines-in", ("k", 1), ("k", 2))
    gc.disable()
    try:
        here.until(lambda: here.machine.lined_up == 1, commits=False)
        here.step_ends(here.executor.submitted[0], 1)
        here.until(lambda: not here.machine.shards[0].locks.held, commits=False)
        assert left == [1, 2]
    finally:
        gc.enable()
