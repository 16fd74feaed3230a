"""Lines at the keys of objects: how much stands in them, and when records wait for them to get shorter."""

from odradek import App, ObjectContext, State, step
from odradek_runtime.log.port import Partition
from odradek_runtime.worker.engine.drain import DRAIN_MS, DRAINED_MS
from odradek_runtime.worker.engine.throttle import PACE_MS
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage

IN = Partition("lines-in", 0)
RECORDS = 500


@step(idempotent=True)
async def more(n: int) -> int:
    return n + 1


def counting(stage: MakeStage) -> Stage:
    """`tally` counts its records by key, a step before each."""
    app = App("lines", shards=1)
    words, said = app.topic("lines-in", value=int), State("words", str, default="")

    @app.object("tally").on(words)
    async def add(ctx: ObjectContext, number: int) -> None:
        await more(0)
        ctx.set(said, ctx.get(said) + str(number))

    made = stage(app, epoch_linger_s=10.0, epoch_backlog_s=10.0, steps_running=1_000)

    def resting() -> bool:
        made.later(1_000)
        return len(made.machine.shards) == 1 and made.quiet

    made.until(resting)
    made.executor.load = 1
    return made


def standing(here: Stage) -> int:
    return here.machine.shards[0].locks.standing


def with_a_line(stage: MakeStage) -> Stage:
    """One invocation runs, all others stand in line for its key since an earlier epoch."""
    here = counting(stage)
    here.publish("lines-in", *[("k", 1)] * RECORDS)
    here.until(lambda: here.machine.lined_up == RECORDS - 1, commits=False)
    here.later(10_001)
    here.turn()
    here.later(DRAIN_MS + 1)
    here.let_through()
    assert standing(here) == RECORDS - 1
    return here


def go_on(here: Stage, *, count: int, pause_ms: float) -> None:
    """So many steps end, one after the other."""
    for _ in range(count):
        here.step_ends(here.executor.submitted[-1], 1)
        here.later(pause_ms)
        begun = len(here.executor.submitted)
        here.until(lambda begun=begun: len(here.executor.submitted) > begun)


def test_records_wait_for_a_long_line_that_moves_quickly(stage: MakeStage) -> None:
    here = with_a_line(stage)
    go_on(here, count=300, pause_ms=0.5)
    assert standing(here) == RECORDS - 1 - 300
    here.publish("lines-in", ("k", 1), ("l", 1))
    here.until(lambda: here.engine.intake.waiting)
    position = here.position(IN)
    for _ in range(5):
        here.turn()
    assert here.position(IN) == position
    assert 0 < here.engine.patience_s() <= DRAIN_MS / 1000
    here.later(DRAIN_MS + 1)
    here.until(lambda: not here.engine.intake.waiting)
    assert here.executor.submitted[-1].id != here.executor.submitted[0].id, "it does not move: nobody waits for it"


def test_a_line_that_moves_slowly_holds_up_nobody(stage: MakeStage) -> None:
    here = with_a_line(stage)
    go_on(here, count=int(3 * PACE_MS / 5), pause_ms=5)
    here.publish("lines-in", ("l", 1))
    here.until(lambda: here.position(IN) == RECORDS + 1)


def test_an_epoch_stays_open_while_lines_get_shorter(stage: MakeStage) -> None:
    here = counting(stage)
    here.publish("lines-in", *[("k", 1)] * 6)
    here.until(lambda: here.machine.lined_up == 5, commits=False)
    here.later(10_001)
    for number in range(5):
        here.turn()
        assert here.member.held is None, f"{number} have ended, and each of them has let another one begin"
        here.later(DRAIN_MS - 5)
        here.step_ends(here.executor.submitted[number], 1)
        here.until(lambda number=number: len(here.executor.submitted) == number + 2, commits=False)
    assert 5 * (DRAIN_MS - 5) < DRAINED_MS
    here.executor.load = 0
    here.step_ends(here.executor.submitted[5], 1)
    assert len(here.held().journal[0]) == 1, "nothing but where the shard stands"
