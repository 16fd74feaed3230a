"""Somebody sets the wall clock, back or ahead: nothing stands still, nothing is lost, and waits keep their length."""

from datetime import timedelta

import pytest

from odradek import App, Context, RetryPolicy, step
from odradek_runtime.core.records.formats import StorePosition
from odradek_runtime.core.records.request import Failure
from odradek_runtime.log.port import TopicInfo
from odradek_runtime.worker.engine.engine import HOUR_MS as REFRESH_MS
from odradek_runtime.worker.restore.takeover import usable
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.stage import Stage

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
JUMPS = [-10 * DAY_MS, -HOUR_MS, -5_000, 5_000, HOUR_MS, 10 * DAY_MS]
jumps = pytest.mark.parametrize("jump_ms", JUMPS)


def idle(here: Stage, ms: float = 0.0) -> None:
    """Let time pass, then everything that may happen."""
    here.later(ms)
    here.turn()
    here.until(lambda: here.quiet)


def lingering(stage: MakeStage) -> Stage:
    here = stage(counting(), epoch_linger_s=0.05)

    def opened() -> bool:
        here.later(1)
        return bool(here.machine.shards) and here.quiet

    here.until(opened)
    return here


@jumps
def test_an_epoch_is_committed_in_time(stage: MakeStage, jump_ms: int) -> None:
    """What comes after a pause at once, what comes after that when there was time for more, by the steady clock alone."""
    here = lingering(stage)
    here.later(50)
    sent = len(here.member.sent)
    here.publish("counting-in", ("k", 1))
    here.until(lambda: len(here.member.sent) == sent + 1)
    here.until(lambda: here.quiet)
    here.publish("counting-in", ("k", 2))
    here.until(lambda: not here.machine.epoch.empty, commits=False)
    here.now_ms += jump_ms
    here.turn()
    sent = len(here.member.sent)
    here.later(49)
    here.turn()
    assert len(here.member.sent) == sent, "it gathers for as long as it was to"
    here.later(1)
    here.turn()
    assert len(here.member.sent) == sent + 1


def test_patience_ends_with_the_epochs_time(stage: MakeStage) -> None:
    here = lingering(stage)
    here.publish("counting-in", ("k", 1))
    here.until(lambda: not here.machine.epoch.empty, commits=False)
    here.now_ms -= HOUR_MS
    here.turn()
    assert 0.0 < here.engine.patience_s() <= 0.05


@jumps
def test_offsets_are_refreshed_in_time(stage: MakeStage, jump_ms: int) -> None:
    here = stage(counting()).open()
    here.now_ms += jump_ms
    idle(here)
    sent = len(here.member.sent)
    idle(here, REFRESH_MS + 1)
    assert len(here.member.sent) == sent + 1


def trying(policy: RetryPolicy, seen: list[str]) -> App:
    """A step that the test lets fail, a handler that fails, a sleep, a timeout; each tells what became of it."""
    app = App("trying", shards=1)

    @step(retry=policy)
    async def work() -> str:
        return "worked"

    @app.handler(retry=policy, on_exhausted="fail")
    async def failing(_: Context) -> None:
        seen.append("failing")
        raise OSError("not now")

    @app.handler
    async def working(_: Context) -> str:
        return await work()

    @app.handler
    async def sleeping(ctx: Context, s: float) -> None:
        await ctx.sleep(s)
        seen.append(f"slept {s:g}")

    @app.handler(timeout=timedelta(seconds=20))
    async def hasty(ctx: Context) -> None:
        await ctx.sleep(10)

    @app.handler
    async def note(_: Context, text: str) -> None:
        seen.append(text)

    @app.handler
    async def sending(ctx: Context, s: float) -> None:
        ctx.send("trying/note", f"sent {s:g}", delay=s)

    return app


@jumps
def test_a_handler_that_failed_is_tried_again_in_time(stage: MakeStage, jump_ms: int) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(initial=1, factor=1), seen)).open()
    here.ask("trying/failing")
    here.until(lambda: seen and here.quiet)
    here.now_ms += jump_ms
    idle(here, 500)
    assert seen == ["failing"]
    idle(here, 500)
    assert seen == ["failing"] * 2
    idle(here, 1000)
    assert seen == ["failing"] * 3


@jumps
def test_a_step_that_failed_is_tried_again_in_time(stage: MakeStage, jump_ms: int) -> None:
    here = stage(trying(RetryPolicy(initial=1, factor=1), [])).open()
    here.ask("trying/working")
    here.until(lambda: here.executor.submitted)
    here.step_fails(here.executor.submitted[0], OSError("not now"))
    here.until(lambda: here.machine.metrics.retries == 1 and here.quiet)
    here.now_ms += jump_ms
    idle(here, 500)
    assert len(here.executor.submitted) == 1
    idle(here, 500)
    assert len(here.executor.submitted) == 2


@jumps
def test_a_step_gives_up_in_time_and_not_before(stage: MakeStage, jump_ms: int) -> None:
    """Set ahead by so much, the limit is over; set back, it begins anew, once."""
    here = stage(trying(RetryPolicy(initial=1, factor=1, max_duration=10), [])).open()
    replies = here.ask("trying/working")
    here.until(lambda: here.executor.submitted)
    here.now_ms += jump_ms
    for attempt in range(1, 30):
        here.step_fails(here.executor.submitted[-1], OSError("not now"))
        here.until(lambda attempt=attempt: replies or (here.machine.metrics.retries == attempt and here.quiet))
        if replies:
            break
        idle(here, 1000)
    assert isinstance(replies[0].failure, Failure)
    assert len(here.executor.submitted) == {5_000: 5}.get(jump_ms, 10 if jump_ms < 0 else 1)


@jumps
def test_a_handler_gives_up_in_time(stage: MakeStage, jump_ms: int) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(initial=1, factor=1, max_duration=10), seen)).open()
    replies = here.ask("trying/failing")
    here.until(lambda: seen and here.quiet)
    here.now_ms += jump_ms
    for _ in range(30):
        idle(here, 1000)
    assert isinstance(replies[0].failure, Failure)
    assert 1 < len(seen) <= 13


@jumps
def test_a_short_sleep_keeps_its_length(stage: MakeStage, jump_ms: int) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    here.ask("trying/sleeping", 30)
    here.ask("trying/sleeping", 4)
    here.until(lambda: len(here.machine.cache) == 2 and here.quiet)
    here.now_ms += jump_ms
    idle(here, 3_999)
    assert seen == []
    idle(here, 2)
    assert seen == ["slept 4"]
    idle(here, 26_000)
    assert seen == ["slept 4", "slept 30"]
    idle(here, 30 * DAY_MS)
    assert seen == ["slept 4", "slept 30"], "once"


def test_sleeps_that_begin_after_the_clock_was_set_back_are_not_cut_short(stage: MakeStage) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    here.ask("trying/sleeping", 30)
    here.until(lambda: len(here.machine.cache) == 1 and here.quiet)
    here.now_ms -= HOUR_MS
    idle(here)
    here.ask("trying/sleeping", 40)
    here.until(lambda: len(here.machine.cache) == 2 and here.quiet)
    idle(here, 39_000)
    assert seen == ["slept 30"]
    idle(here, 1_001)
    assert seen == ["slept 30", "slept 40"]


def test_a_long_sleep_is_later_by_as_much_as_the_clock_was_set_back(stage: MakeStage) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    here.ask("trying/sleeping", 7200)
    here.until(lambda: len(here.machine.cache) and here.quiet)
    here.now_ms -= HOUR_MS
    idle(here, 3 * HOUR_MS - 1_000)
    assert seen == []
    idle(here, 1_001)
    assert seen == ["slept 7200"]


def test_a_sleep_that_the_clock_leaps_over_keeps_its_length(stage: MakeStage) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    here.ask("trying/sleeping", 1800)
    here.until(lambda: len(here.machine.cache) and here.quiet)
    here.now_ms += HOUR_MS
    idle(here, 1_799_000)
    assert seen == []
    idle(here, 1_001)
    assert seen == ["slept 1800"]


def test_a_delayed_start_goes_by_the_wall_clock(stage: MakeStage) -> None:
    """It may stand for a date."""
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    here.ask("trying/sending", 30)
    here.ask("trying/sending", 3000)
    here.until(lambda: here.machine.metrics.epochs and here.quiet)
    idle(here)
    here.now_ms -= HOUR_MS
    idle(here, HOUR_MS + 29_000)
    assert seen == []
    idle(here, 1_001)
    assert seen == ["sent 30"]
    here.now_ms += HOUR_MS
    idle(here)
    assert seen == ["sent 30", "sent 3000"]


def test_a_clock_that_leaps_ahead_times_nobody_out(stage: MakeStage) -> None:
    here = stage(trying(RetryPolicy(), [])).open()
    replies = here.ask("trying/hasty")
    here.until(lambda: len(here.machine.cache) and here.quiet)
    here.now_ms += HOUR_MS
    idle(here, 9_000)
    assert replies == []
    idle(here, 1_001)
    assert [reply.status for reply in replies] == ["completed"]


def test_what_has_ended_can_still_be_asked_for_when_the_clock_leaps_ahead(stage: MakeStage) -> None:
    """Its completion is kept for an hour: a client that asks again meanwhile must not start it a second time."""
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    replies = here.ask("trying/note", "noted")
    here.until(lambda: replies and here.quiet)
    here.now_ms += 2 * HOUR_MS
    idle(here, HOUR_MS - 1_000)
    assert here.machine.stored(here.machine.shards[0], replies[0].invocation_id) is not None
    idle(here, 1_001)
    assert here.machine.stored(here.machine.shards[0], replies[0].invocation_id) is None


@pytest.mark.parametrize("jump_ms", [-10 * DAY_MS, -HOUR_MS, -5_000])
def test_a_worker_that_starts_over_on_a_clock_set_back_tries_again_in_time(stage: MakeStage, jump_ms: int) -> None:
    """The last owner's wall clock stands in the journal."""
    seen: list[str] = []
    here = stage(trying(RetryPolicy(initial=1, factor=1), seen)).open()
    here.ask("trying/failing")
    here.until(lambda: seen and here.quiet)
    here.now_ms += jump_ms
    for _ in range(2):  # its opening is an epoch, by the clock of today
        here.engine.flags.start_over = "a test says so"
        here.turn()
        here.until(lambda: here.machine.shards and here.quiet)
    idle(here, 1_000)
    assert seen == ["failing"] * 2
    idle(here, 1_000)
    assert seen == ["failing"] * 3


def starts_over(here: Stage) -> None:
    """Every shard has a new owner, which knows of the clocks what stands in the journal."""
    here.engine.flags.start_over = "a test says so"
    here.turn()
    here.until(lambda: here.machine.shards and here.quiet)


@pytest.mark.parametrize("jump_ms", [-10 * DAY_MS, -HOUR_MS, -84_000, -20_000])
@pytest.mark.parametrize("moves", [1, 3])
def test_a_new_owner_tells_waits_that_began_before_the_clock_was_set_back_from_those_after(
    stage: MakeStage, jump_ms: int, moves: int
) -> None:
    """To the minute and by the due time alone, those after look like those before."""
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    after_s = -jump_ms // 1000
    here.ask("trying/sleeping", 30)
    here.until(lambda: len(here.machine.cache) == 1 and here.quiet)
    here.now_ms += jump_ms
    idle(here, 5_000)
    here.ask("trying/sleeping", after_s)
    here.until(lambda: len(here.machine.cache) == 2 and here.quiet)
    for _ in range(moves):
        starts_over(here)
    idle(here, min(24_000, after_s * 1000 - 1_000))
    assert seen == []
    idle(here, 1_001)
    assert seen == (["slept 30"] if after_s > 25 else [f"slept {after_s}"])
    idle(here, max(after_s, 30) * 1000)
    assert sorted(seen) == sorted(["slept 30", f"slept {after_s}"])


def test_a_new_owner_knows_each_of_two_clocks_that_were_set_back(stage: MakeStage) -> None:
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    for number, s, jump_ms in ((1, 40, -HOUR_MS), (2, 30, -2 * HOUR_MS), (3, 20, 0)):
        here.ask("trying/sleeping", s)
        here.until(lambda number=number: here.quiet and len(here.machine.cache) == number)
        here.now_ms += jump_ms
        idle(here, 1_000)
    starts_over(here)
    for s, ms in ((20, 19_000), (30, 9_000), (40, 9_000)):
        idle(here, ms - 1_000)
        assert f"slept {s}" not in seen
        idle(here, 1_001)
        assert seen[-1] == f"slept {s}"


@pytest.mark.parametrize("jump_ms", [-20_000, -HOUR_MS // 6])
def test_a_clock_that_was_set_back_while_nothing_happened_is_told_to_the_next_owner(stage: MakeStage, jump_ms: int) -> None:
    """The shard's last commit is older than what the clock shows now: from the time in it nobody sees that it was set."""
    seen: list[str] = []
    here = stage(trying(RetryPolicy(), seen)).open()
    idle(here, REFRESH_MS + 1)  # the next commit of every position is far away
    here.ask("trying/sleeping", 1500)
    here.until(lambda: len(here.machine.cache) == 1 and here.quiet)
    idle(here, 1_470_000)
    here.now_ms += jump_ms
    idle(here)
    starts_over(here)
    idle(here, 29_000)
    assert seen == []
    idle(here, 1_001)
    assert seen == ["slept 1500"]


def test_all_timers_of_a_turn_are_reckoned_by_one_clock(stage: MakeStage) -> None:
    """One that is set amid a turn is noticed before the next: what was made in between would be taken for older than that."""
    app, seen = App("amid", shards=1), list[str]()

    @app.handler
    async def work(ctx: Context) -> None:
        here.now_ms -= HOUR_MS
        await ctx.sleep(3600)
        seen.append("slept")

    here = stage(app).open()
    here.ask("amid/work")
    here.until(lambda: len(here.machine.cache) == 1 and here.quiet)
    idle(here, HOUR_MS - 1_000)
    assert seen == []
    idle(here, HOUR_MS + 1_001)
    assert seen == ["slept"], "it began by the clock before: later by as much"


@pytest.mark.parametrize(
    ("age_ms", "fits"), [(0, True), (HOUR_MS, True), (22 * HOUR_MS, False), (-5_000, True), (-3 * HOUR_MS, False)]
)
def test_a_store_whose_age_is_not_known_is_not_trusted(age_ms: int, fits: bool) -> None:
    """Written by a clock that was ahead of today's: what was deleted since may have been forgotten."""
    journal, state = TopicInfo("a.journal", "j", 1, {}), TopicInfo("a.state", "s", 1, {})
    ends = {"a.journal": (0, 10), "a.state": (0, 10)}
    at = StorePosition("j", "s", 5, 5, 100 * DAY_MS)
    assert usable(at, journal, state, ends, 100 * DAY_MS + age_ms) is fits
