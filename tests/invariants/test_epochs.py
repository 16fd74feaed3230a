"""Epochs: one in flight, what follows a failed one is dropped, and nothing is seen or stored before its commit."""

from odradek import App, Context
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS
from odradek_runtime.core.records.request import Reply
from odradek_runtime.core.shard import WRITE_BACK_MS
from odradek_runtime.log.port import Losing, Partition
from odradek_runtime.routing import shard_of
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.stage import Stage, of_topic

COUNT = keys.state_prefix("counter") + b"k/count"
IN = Partition("counting-in", 0)


def opened(stage: MakeStage) -> Stage:
    made = stage(counting()).open()
    made.member.sent.clear()
    return made


def test_the_next_epoch_executes_ahead_and_is_not_sent_before_the_last_has_ended(stage: MakeStage) -> None:
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    first = here.held()
    here.publish(IN.topic, ("k", 2))
    here.until(lambda: here.position(IN) == 2, commits=False)  # executed ...
    for _ in range(5):
        here.turn()
    assert here.member.sent == [first], "... and not sent"

    here.until(lambda: here.values("counting-out") == ["k=1", "k=3"])
    assert len(here.member.sent) == 2


def test_what_was_executed_behind_a_failed_epoch_is_dropped_with_it(stage: MakeStage) -> None:
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    here.held()
    here.publish(IN.topic, ("k", 2))
    here.until(lambda: here.position(IN) == 2, commits=False)
    here.refuse("aborted")

    here.until(lambda: len(here.values("counting-out")) >= 2)
    here.until(lambda: here.quiet)
    assert here.values("counting-out") == ["k=1", "k=3"], "each once, in order, the second upon the first"
    outputs = [output for sent in here.member.sent[1:] for output in sent.outputs]
    assert [value for topic, _, _, value, *_ in outputs if topic == "counting-out"] == [b"k=1", b"k=3"]


def test_the_store_is_written_after_the_commit_alone(stage: MakeStage) -> None:
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    here.held()
    shard = here.machine.shards[0]
    assert shard.read(COUNT) == b"1", "the next epoch sees it"
    assert shard.store.get(COUNT) is None, "the store does not have it"
    position = shard.store.get(keys.STORE_POSITION)

    here.let_through()
    assert shard.read(COUNT) == b"1"
    here.later(WRITE_BACK_MS)
    here.turn()
    assert shard.store.get(COUNT) == b"1", "after at most so long"
    assert shard.store.get(keys.STORE_POSITION) != position, "in one batch with the changelog's positions"


def test_a_clock_that_is_set_back_does_not_keep_the_store_behind(stage: MakeStage) -> None:
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    here.let_through()
    here.now_ms -= 3_600_000
    here.steady_ms += WRITE_BACK_MS
    here.turn()
    assert here.machine.shards[0].store.get(COUNT) == b"1"


def test_several_epochs_go_into_the_store_at_once(stage: MakeStage) -> None:
    here = opened(stage)
    shard = here.machine.shards[0]
    shard.write_back()
    position = shard.store.get(keys.STORE_POSITION)
    for number in range(1, 4):
        here.publish(IN.topic, ("k", number))
        here.let_through()
    assert shard.read(COUNT) == b"6"
    assert shard.store.get(keys.STORE_POSITION) == position, "not one by one"
    assert dict(shard.scan_prefix(COUNT)) == {COUNT: b"6"}, "who looks through the store finds what is committed"
    assert shard.store.get(keys.STORE_POSITION) != position


def test_replies_wait_for_the_commit(stage: MakeStage) -> None:
    here = opened(stage)
    replies = here.ask("counter/add", 5, key="k")
    here.held()
    for _ in range(5):
        here.turn()
    assert replies == []

    here.let_through()
    assert [(reply.status, reply.value) for reply in replies] == [("completed", b"5")]


def test_whoever_waits_is_told_that_the_invocation_exists_once_that_is_durable(stage: MakeStage) -> None:
    here = opened(stage)
    told: list[str] = []
    replies = here.ask("counter/step", 5, key="k", accepted=lambda: told.append("exists"))
    here.held()
    for _ in range(5):
        here.turn()
    assert told == []
    here.refuse("fenced")
    here.held()
    here.let_through()  # the shard opens again
    here.held()
    assert told == [], "it was refused, and is not committed again yet"

    here.let_through()
    assert (told, replies) == (["exists"], [])
    at_once: list[str] = []
    replies = here.ask("counter/add", 5, key="other", accepted=lambda: at_once.append("exists"))
    here.until(lambda: replies)
    assert at_once == [], "its end says it"


def test_who_is_turned_away_is_told_whether_the_invocation_may_exist(stage: MakeStage) -> None:
    """Sent and not answered, nobody knows; durable, it was told before."""
    here = opened(stage)
    durable = here.ask("counter/step", 5, key="durable")
    here.let_through()
    sent = here.ask("counter/step", 5, key="sent")
    here.held()
    here.engine.turn_away()  # the engine has failed

    assert [(reply.status, reply.doubtful) for reply in (*durable, *sent)] == [("moved", False), ("moved", True)]


def test_steps_start_after_the_commit_and_what_follows_a_result_commits_with_it(stage: MakeStage) -> None:
    """One commit a step: its handler sees a result in the epoch that journals it, and nothing of what follows is seen before."""
    here = opened(stage)
    replies = here.ask("counter/step", 5, key="k")
    here.held()
    for _ in range(5):
        here.turn()
    assert here.executor.submitted == [], "its start is not durable"

    here.let_through()
    (run,) = here.executor.submitted
    here.step_ends(run, 10)
    sent = here.held()
    assert (COUNT[1:], b"10") in sent.state[0], "the handler has gone on in the epoch that journals the result"
    for _ in range(5):
        here.turn()
    assert replies == [], "and that is not durable"

    here.until(lambda: replies)
    assert replies[0].value == b"10"
    assert len(here.member.sent) == 2


def in_a_row(stage: MakeStage) -> Stage:
    """An app whose handler runs three steps, one after the other, each from the last one's result."""
    app = App("row", shards=1)

    async def more(n: int) -> int:
        return n + 1

    @app.handler
    async def go(ctx: Context) -> int:
        n = 0
        for _ in range(3):
            n = await ctx.run(more, n)
        return n

    made = stage(app).open()
    made.member.sent.clear()
    return made


def test_three_steps_in_a_row_are_four_commits_and_none_starts_before_the_result_it_follows_is_durable(stage: MakeStage) -> None:
    here = in_a_row(stage)
    replies = here.ask("row/go")
    for done in range(3):
        here.until(lambda done=done: len(here.executor.submitted) > done)
        here.step_ends(here.executor.submitted[done], done + 1)
        here.held()
        for _ in range(5):
            here.turn()
        assert len(here.executor.submitted) == done + 1, "the result that the next one follows is not durable"
        assert replies == []
    here.until(lambda: replies)
    assert replies[0].value == b"3"
    assert len(here.member.sent) == 4


def test_a_result_that_was_not_recorded_is_dropped_with_all_that_followed_from_it(stage: MakeStage) -> None:
    """The step runs again, under the same key, and what it gives then is the one result that there has ever been."""
    here = in_a_row(stage)
    replies = here.ask("row/go")
    here.until(lambda: here.executor.submitted)
    first = here.executor.submitted[0]
    here.step_ends(first, 1)
    here.held()
    here.refuse("aborted")
    here.until(lambda: len(here.executor.submitted) == 2)
    again = here.executor.submitted[1]
    assert (again.key, again.incarnation > first.incarnation) == (first.key, True), "the second one was never started"

    here.step_ends(again, 10)
    here.until(lambda: len(here.executor.submitted) == 3)
    here.step_ends(first, 1)  # heard of late: nobody waits for it any more
    here.step_ends(here.executor.submitted[2], 11)
    here.until(lambda: len(here.executor.submitted) == 4)
    here.step_ends(here.executor.submitted[3], 12)
    here.until(lambda: replies)
    assert replies[0].value == b"12"


def test_a_worker_that_has_lost_its_shard_answers_no_read_from_what_it_had(stage: MakeStage) -> None:
    """A read is answered by a commit like everything else, and the commit carries the fence."""
    here = opened(stage)
    assert here.machine.shards[0].phase == "open"
    replies = here.ask("counter/total", key="k")
    sent = here.held()
    assert sent.stamps == {0: here.machine.shards[0].stamp}
    here.refuse("fenced")
    for _ in range(5):
        here.turn()
    assert replies == []


def test_every_shard_that_a_record_touches_is_fenced_its_source_included(stage: MakeStage) -> None:
    """A record that was read on another shard than its key's: the transaction carries both stamps, and both fences."""
    here = stage(counting(shards=2)).open()
    key = next(key for key in "abcdef" if shard_of(key.encode(), 2) == 1)
    here.publish(IN.topic, (key, 1), partition=0)
    sent = here.held()

    assert sent.stamps == {number: here.machine.shards[number].stamp for number in (0, 1)}
    assert {Partition("counting.commands", number) for number in (0, 1)} <= set(sent.offsets)
    assert sent.offsets[IN] == 1
    here.until(lambda: here.values("counting-out") == [f"{key}=1"])


def test_a_shard_is_released_when_every_epoch_that_touches_it_has_ended(stage: MakeStage) -> None:
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    here.held()
    here.publish(IN.topic, ("k", 2))
    here.until(lambda: here.position(IN) == 2, commits=False)
    released: list[bool] = []
    with here.engine_loop():
        here.engine.post(Losing((0,), lost=False, release=lambda: released.append(True)))
    for _ in range(5):
        here.turn()
    assert released == [], "one epoch is being committed, the next is open"

    here.let_through()
    here.turn()
    here.held()
    assert released == [], "the next one is being committed"

    here.let_through()
    here.turn()
    assert released == [True]
    assert here.values("counting-out") == ["k=1", "k=3"]


def test_after_an_unknown_outcome_each_waiting_invocation_is_looked_up(stage: MakeStage) -> None:
    """One commit has happened though it did not seem so, another has not: each runs once, and each is answered once."""
    here = opened(stage)
    there = here.ask("counter/add", 5, key="k")
    here.held()
    here.refuse("unknown", applied=True)
    here.until(lambda: there)
    here.until(lambda: here.quiet)
    lost = here.ask("counter/add", 7, key="k")
    here.held()
    here.refuse("unknown")
    here.until(lambda: lost)
    here.until(lambda: here.quiet)

    assert [reply.value for reply in (*there, *lost)] == [b"5", b"12"]
    assert here.machine.shards[0].read(COUNT) == b"12"


def test_state_records_say_which_epoch_wrote_them(stage: MakeStage) -> None:
    """Else a restore could not tell a torn epoch: the journal's last record of an epoch closes it."""
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    sent = here.held()

    assert sent.state[0] == [(COUNT[1:], b"1")]
    assert sent.state_headers[0] == [("odradek", b"%d.%d" % (here.machine.shards[0].incarnation, sent.epoch))]
    key, value = sent.journal[0][-1]
    assert key == keys.POSITIONS
    closing = POSITIONS.decode(value or b"")
    assert (closing.incarnation, closing.epoch) == (here.machine.shards[0].incarnation, sent.epoch)


def test_batches_fetched_before_a_start_over_are_dropped(stage: MakeStage) -> None:
    """They begin behind what is to be done again: taken for the next records, they would skip it."""
    here = opened(stage)
    here.publish(IN.topic, ("k", 1))
    here.held()
    here.deaf = of_topic(IN.topic)
    here.publish(IN.topic, ("k", 2))
    here.until(lambda: here.waiting(IN.topic) == [1], commits=False)
    here.refuse("aborted")
    here.until(lambda: here.waiting(IN.topic) == [1, 0, 1])
    here.deaf = lambda _: False

    here.until(lambda: len(here.values("counting-out")) == 2)
    assert here.values("counting-out") == ["k=1", "k=3"]


def backing_off(stage: MakeStage, seen: list[int]) -> tuple[Stage, list[Reply]]:
    """A task that waits to be tried again, which it will survive, and whose step has ended meanwhile: that commit is held."""
    app, failing = App("during", shards=1), [True]

    async def work() -> int:
        return 8

    @app.handler
    async def go(ctx: Context) -> int:
        future = ctx.run(work)
        await ctx.sleep(0.001)
        if failing:
            raise OSError("not now")
        seen.append(await future)
        return seen[-1]

    here = stage(app).open()
    replies = here.ask("during/go")
    here.until(lambda: here.executor.submitted)
    here.later(1000)
    here.until(lambda: here.machine.metrics.retries == 1 and here.quiet)
    here.step_ends(here.executor.submitted[0], 8)
    here.held()
    failing.clear()
    here.later(100_000)
    return here, replies


def test_a_retry_runs_no_step_again_whose_result_came_during_the_backoff(stage: MakeStage) -> None:
    """It is journaled while its invocation cannot run. A retry finds it there, before its epoch is durable, too."""
    seen: list[int] = []
    here, replies = backing_off(stage, seen)
    for _ in range(5):
        here.turn()
    assert (seen, replies) == ([8], [])

    here.until(lambda: replies)
    assert len(here.executor.submitted) == 1
