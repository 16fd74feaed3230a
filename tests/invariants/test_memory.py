"""What a worker holds is bounded in bytes: each share of `memory_bytes` by what makes it up, and a real process as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from odradek import App, Context
from odradek._port import StepBody
from odradek_runtime.configuration.memory import Shares
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.log.port import Partition
from odradek_runtime.store.store import RocksStore, StoreMemory
from odradek_runtime.worker.steps.executor import StepEnded, StepExecutor, StepsEnded
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.stage import Stage
from tests.kafka.raw import eventually

MIB = 1024 * 1024
IN = Partition("counting-in", 0)


def napping() -> App:
    app = App("naps", shards=2)

    @app.handler
    async def nap(ctx: Context, text: str) -> int:
        await ctx.sleep(3600.0)
        return len(text)

    return app


def waiting(here: Stage, text: str) -> None:
    """One more invocation waits, durably."""
    accepted: list[bool] = []
    here.ask("naps/nap", text, accepted=lambda: accepted.append(True))
    here.until(lambda: accepted and here.quiet)


@pytest.mark.parametrize("memory_bytes", [0, 16 * MIB, 512 * MIB])
def test_the_shares_are_no_more_than_the_whole(memory_bytes: int) -> None:
    shares = Shares.of(memory_bytes, largest_bytes=1 * MIB)
    held = sum(getattr(shares, name) for name in Shares.__dataclass_fields__)
    assert held <= max(memory_bytes, 2 * MIB)
    assert shares.clients_bytes >= 2 * MIB, "a request and its answer have room, whatever is set"


def test_suspended_coroutines_go_by_what_they_hold(stage: MakeStage) -> None:
    here = stage(napping(), memory_bytes=8 * MIB).open()
    share = Shares.of(8 * MIB, largest_bytes=0).suspended_bytes
    for number in range(40):
        waiting(here, f"{number:02}" * 25_000)
        assert here.machine.cache.held_bytes <= share
    assert 5 <= len(here.machine.cache) <= share // 100_000
    assert len(here.machine.living) == len(here.machine.cache)
    replies = [here.attach(id_) for id_ in here.asked]
    here.later(3_700_000)
    here.until(lambda: all(replies))
    assert [reply.value for (reply,) in replies] == [b"50000"] * 40, "those that were let go were replayed"
    assert here.machine.cache.held_bytes == 0


def test_what_is_recent_is_shared_out_among_the_shards(stage: MakeStage, tmp_path: Path) -> None:
    here = stage(napping(), tmp_path, memory_bytes=8 * MIB).open()
    share = Shares.of(8 * MIB, largest_bytes=0).recent_bytes
    for _ in range(40):
        waiting(here, "x" * 100_000)
        held = [sum(len(value or b"") for value in shard.recent.values()) for shard in here.machine.shards.values()]
        assert max(held) <= share // 2 + 400_000, "a share for each shard, and one commit beyond"


def test_steps_that_hold_too_much_pause_the_inputs(stage: MakeStage) -> None:
    here = stage(counting(), memory_bytes=8 * MIB).open()
    share = Shares.of(8 * MIB, largest_bytes=0).suspended_bytes
    here.executor.load, here.executor.load_bytes = 3, share + 1
    here.turn()
    assert here.member.paused == {IN}
    here.executor.load_bytes = share // 2 + 1
    here.turn()
    assert here.member.paused == {IN}
    here.executor.load_bytes = share // 2
    here.turn()
    assert here.member.paused == set()


def test_a_step_is_counted_with_what_its_invocation_holds(stage: MakeStage) -> None:
    app = App("naps", shards=1)

    @app.handler
    async def work(ctx: Context, text: str) -> int:
        return await ctx.run(len, text)

    here = stage(app).open()
    here.ask("naps/work", "x" * 100_000)
    here.until(lambda: here.executor.submitted)
    assert 100_000 < here.executor.submitted[0].held_bytes < 101_000


def test_steps_that_begin_together_hold_what_their_invocation_does_once(stage: MakeStage) -> None:
    app = App("naps", shards=1)

    @app.handler
    async def work(ctx: Context, text: str) -> int:
        lengths = [ctx.run(len, text) for _ in range(50)]
        return sum([await length for length in lengths])

    here = stage(app).open()
    here.ask("naps/work", "x" * 100_000)
    here.until(lambda: len(here.executor.submitted) == 50)
    assert 100_000 < sum(run.held_bytes for run in here.executor.submitted) < 110_000


@dataclass
class Owner:
    """Of a step that is none of the engine's."""

    id: str


class Results:
    """An executor whose results are taken when the test says so; `began` counts the bodies that have begun."""

    def __init__(self, results_bytes: int) -> None:
        self.made: list[StepEnded] = []
        self.began = 0
        self.executor = StepExecutor(self._end, running=100, threads=1, results_bytes=results_bytes)
        self.executor.start()

    def _end(self, told: StepsEnded) -> None:
        assert all(each.error is None for each in told.ended)
        self.made.extend(told.ended)

    def submit(self, count: int, size: int) -> None:
        async def body() -> bytes:
            self.began += 1
            return bytes(size)

        step = StepBody("make", body, is_async=True, encode=bytes, decode=bytes, retry=None, timeout_s=None)
        self.executor.submit([StepRun(0, 0, Owner("id"), number, step, 0, 0, 1_000) for number in range(count)])

    def take(self, count: int) -> None:
        for _ in range(count):
            self.executor.took(self.made.pop(0))


@pytest.fixture
def results() -> Iterator[Results]:
    made = Results(results_bytes=1_000_000)
    yield made
    made.executor.stop()


def test_no_step_begins_while_results_that_wait_hold_too_much(results: Results) -> None:
    results.submit(60, 100_000)  # of which nobody knows yet how large their results are
    eventually(lambda: len(results.made) == 60)
    results.submit(40, 100_000)
    assert (results.executor.load, results.executor.load_bytes) == (100, 100_000), "results that wait count, too"
    results.take(50)
    assert (results.executor.load, results.executor.load_bytes) == (50, 50_000)
    assert results.began == 60, "ten results of 100,000 bytes wait still"
    for taken in range(1, 41):
        results.take(1)
        eventually(lambda least=60 + taken: results.began >= least)
        assert results.began <= 61 + taken
    eventually(lambda: len(results.made) == 10)
    results.take(10)
    assert (results.began, results.executor.load, results.executor.load_bytes) == (100, 0, 0)


def test_small_results_hold_up_nobody(results: Results) -> None:
    results.submit(500, 10)
    eventually(lambda: len(results.made) == 500)


def test_one_large_result_is_not_taken_for_usual(results: Results) -> None:
    results.submit(200, 10)
    results.submit(1, 900_000)
    eventually(lambda: len(results.made) == 201)
    results.take(201)
    results.submit(5, 10)
    eventually(lambda: len(results.made) == 5)


def test_a_result_larger_than_the_share_is_waited_for_alone(results: Results) -> None:
    for _ in range(3):
        results.submit(3, 3_000_000)
        for _ in range(3):
            eventually(lambda: bool(results.made))
            results.take(1)


def test_the_stores_of_a_worker_share_what_they_have_not_written_yet(tmp_path: Path) -> None:
    memory = StoreMemory(tables_bytes=8 * MIB, blocks_bytes=4 * MIB)
    stores = [RocksStore(tmp_path / str(number), memory) for number in range(8)]

    def unwritten() -> int:
        return sum(store._db.property_int_value("rocksdb.cur-size-all-mem-tables") or 0 for store in stores)

    for number in range(400):
        for store in stores:
            store.write([(b"k%d" % number, b"v" * 10_000)])
        if number % 50 == 49:
            eventually(lambda: unwritten() <= 9 * MIB)  # what is on its way into the files is on top
    for number in range(400):
        assert all(store.get(b"k%d" % number) == b"v" * 10_000 for store in stores)
        assert memory.blocks.get_usage() < 8 * MIB
    for store in stores:
        store.close()
