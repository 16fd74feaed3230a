"""Everything is bounded: past a limit the inputs wait, and memory stays flat."""

import time

from odradek_runtime.core.records.formats import Command
from odradek_runtime.log.port import Partition
from odradek_runtime.recovery.orders import give
from odradek_runtime.routing import fresh_id
from odradek_runtime.worker.engine.engine import SLICE
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting

IN = Partition("counting-in", 0)


def test_an_epoch_takes_no_more_events_than_its_limit_while_the_last_one_commits(stage: MakeStage) -> None:
    here = stage(counting(), epoch_events=100).open()
    here.publish(IN.topic, *[("k", 1)] * 1000)
    here.held()
    sent = here.position(IN)
    here.until(lambda: here.machine.epoch.events >= 100, commits=False)
    for _ in range(20):
        here.turn()

    assert here.machine.epoch.events < 100 + SLICE, "at most a slice beyond"
    assert here.position(IN) < sent + 100 + SLICE, "the rest waits"
    here.until(lambda: here.position(IN) == 1000)


def test_an_epoch_takes_no_more_bytes_than_its_limit(stage: MakeStage) -> None:
    here = stage(counting(), epoch_bytes=1000).open()
    here.publish(IN.topic, *[("k", 10**99)] * 2000)
    here.held()
    here.until(lambda: here.machine.epoch.bytes >= 1000, commits=False)
    for _ in range(20):
        here.turn()

    assert here.machine.epoch.bytes < 1000 + SLICE * 100, "at most a slice beyond"
    assert here.engine.intake.waiting


def test_an_epoch_gathers_more_while_fetched_records_wait_but_not_for_ever(stage: MakeStage) -> None:
    here = stage(counting(), epoch_backlog_s=0.2).open()
    here.publish(IN.topic, *[("k", 1)] * 2000)
    here.until(lambda: here.engine.intake.waiting, commits=False)
    sent = len(here.member.sent)
    here.turn()
    assert len(here.member.sent) == sent, "fewer and larger transactions are cheaper"
    here.later(200)
    here.turn()
    assert len(here.member.sent) == sent + 1
    assert here.engine.intake.waiting


def test_batches_that_wait_are_not_taken_so_that_the_log_fetches_no_more(stage: MakeStage) -> None:
    here = stage(counting(), epoch_events=100).open()
    here.publish(IN.topic, *[("k", 1)] * 20_000)
    here.held()
    ends_s = time.monotonic() + 1.0
    while time.monotonic() < ends_s and here.member.posted_records <= 8_000:
        here.turn()
        time.sleep(0.002)

    assert 0 < here.member.posted_records <= 8_000, "a few batches, not all of it"


def test_too_many_steps_pause_the_inputs_and_nothing_else(stage: MakeStage) -> None:
    here = stage(counting(), steps_queued=10).open()
    here.executor.load = 11
    here.turn()
    assert here.member.paused == {IN}, "the commands are read on: what waits for them could never end"

    here.executor.load = 6
    here.turn()
    assert here.member.paused == {IN}
    here.executor.load = 5
    here.turn()
    assert here.member.paused == set()


def test_records_wait_while_enough_steps_run(stage: MakeStage) -> None:
    here = stage(counting(), steps_running=8).open()
    here.executor.load = 10
    here.publish(IN.topic, *[("k", 1)] * 5)
    here.until(lambda: here.engine.intake.waiting)
    here.turn()
    assert here.position(IN) == 0
    assert here.engine.patience_s() > 0, "it waits, and does not look again at once"
    assert here.member.paused == set(), "for a moment: to pause drops what is fetched ahead"

    here.executor.load = 8
    here.turn()
    assert here.position(IN) == 0
    here.executor.load = 7
    here.until(lambda: here.position(IN) == 5 and here.quiet)


def test_while_records_wait_for_long_the_commands_go_on(stage: MakeStage) -> None:
    here = stage(counting(), steps_running=8).open()
    here.executor.load = 10
    here.publish(IN.topic, *[("k", 1)] * 5)
    here.until(lambda: here.engine.intake.waiting)
    here.later(101)
    here.turn()
    assert here.member.paused == {IN}
    posted = here.member.posted_records
    id_ = fresh_id(b"l", bytes(12), hash_=0)
    give(here.log, "counting", id_, [(0, Command("invoke", id_, target="counter/add", key=b"l", payload=b"1"))])
    here.until(lambda: here.machine.shards[0].read(b"scounter/l/count") == b"1")
    assert here.member.posted_records > posted
    assert here.position(IN) == 0

    here.executor.load = 0
    here.until(lambda: here.position(IN) == 5)
    here.later(1_000)
    here.until(lambda: here.quiet)
    assert here.member.paused == set()
    assert here.machine.shards[0].read(b"scounter/k/count") == b"5"


def test_inputs_that_are_read_anew_stay_paused(stage: MakeStage) -> None:
    here = stage(counting(), steps_queued=10).open()
    here.executor.load = 11
    here.turn()
    here.ask("counter/add", 1, key="k")
    here.held()
    here.refuse("aborted")
    reads = len(here.member.reads)
    here.until(lambda: len(here.member.reads) > reads)
    here.until(lambda: here.quiet)

    assert here.member.paused == {IN}


def test_inputs_that_an_order_moves_stay_paused(stage: MakeStage) -> None:
    here = stage(counting(), steps_queued=10).open()
    here.publish(IN.topic, ("k", 1))
    here.until(lambda: here.position(IN) == 1)
    here.executor.load = 11
    here.turn()
    give(here.log, "counting", "reset-a", [(0, Command("reset", "reset-a", topic=IN.topic, partition=0, offset=0))])
    here.until(lambda: here.member.reads[-1] == {IN: 0})

    assert here.member.paused == {IN}
