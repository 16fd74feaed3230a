"""Replays of many parts keep to their rate, use all of it, and take no places from each other."""

import random
from collections.abc import Callable

import pytest

from odradek import App, Context
from odradek_runtime.core.records.formats import COMMAND, REPLAY, Command, Replay
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.worker.engine.pace import Pace
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage

PARTS = 24
"""Three times as many as are read at once."""
STEP_MS = 20.0


def fed(log: EmbeddedLog, records: list[int]) -> None:
    """So many records in each partition."""
    log.create_topic("entries", len(records), {})
    outputs = [Output("entries", number, None, b"1") for number, many in enumerate(records) for _ in range(many)]
    log.publisher("feed").publish(outputs, 1)


def opened(stage: MakeStage) -> Stage:
    app = App("paced", shards=2)

    @app.on(app.topic("entries", value=int))
    async def seen(ctx: Context, value: int) -> None: ...

    assert callable(seen)
    return stage(app).open()


def order(here: Stage, id_: str, rate: float) -> None:
    info = here.log.topic("entries")
    assert info is not None
    outputs: list[Output] = []
    for number in range(info.partitions):
        first, stop = here.log.offsets(Partition("entries", number))
        part = Replay(id_, "entries", number, first, first, stop, rate=rate / info.partitions, parts=info.partitions)
        command = COMMAND.encode(Command(kind="replay", id=id_, payload=REPLAY.encode(part)))
        outputs.append(Output("paced.commands", number % 2, None, command))
    here.log.publisher(f"order-{id_}").publish(outputs, 1)
    here.until(lambda: len(parts(here, id_)) == info.partitions)


def parts(here: Stage, id_: str) -> list[Replay]:
    return [part for shard in here.machine.shards.values() for part in shard.replays.values() if part.id == id_]


def delivered(here: Stage, id_: str) -> int:
    return sum(part.records for part in parts(here, id_))


def over(here: Stage, id_: str) -> bool:
    return all(part.status == "done" for part in parts(here, id_))


def seconds(here: Stage, condition: Callable[[], bool], most_s: float) -> float:
    """How long it takes, by the stage's clock; what is read and committed takes no time."""
    began_ms = here.steady_ms
    while not condition():
        assert here.steady_ms - began_ms < most_s * 1000, "it takes longer"
        here.later(STEP_MS)
        for _ in range(4):
            if here.member.held is not None:
                here.member.let_through()
            here.turn()
    return (here.steady_ms - began_ms) / 1000


def test_a_rate_is_used_whole_with_more_parts_than_are_read_at_once(stage: MakeStage, log: EmbeddedLog) -> None:
    fed(log, [10] * PARTS)
    here = opened(stage)
    order(here, "paced", 240.0)
    assert seconds(here, lambda: over(here, "paced"), 1.5) > 0.8


def test_what_short_parts_do_not_use_of_a_rate_the_long_one_does(stage: MakeStage, log: EmbeddedLog) -> None:
    fed(log, [200, *[1] * (PARTS - 1)])
    here = opened(stage)
    order(here, "paced", 100.0)
    assert seconds(here, lambda: over(here, "paced"), 3.0) > 2.0


def test_a_slow_replay_of_many_parts_keeps_no_other_from_its_places(stage: MakeStage, log: EmbeddedLog) -> None:
    fed(log, [10] * PARTS)
    here = opened(stage)
    order(here, "slow", 2.0)
    seconds(here, lambda: delivered(here, "slow") >= 2, 3.0)
    order(here, "fast", 0.0)
    seconds(here, lambda: over(here, "fast"), 10.0)
    assert 2 <= delivered(here, "slow") < 10 * PARTS
    seconds(here, lambda: over(here, "slow"), 130.0)
    assert [delivered(here, id_) for id_ in ("slow", "fast")] == [10 * PARTS] * 2, "whatever was read and let go again"


@pytest.mark.parametrize("rate", [0.3, 2.0, 3.0, 7.0, 50.0])
def test_a_rate_is_kept_whatever_the_clock_shows(rate: float) -> None:
    """Seed 57030 of the simulation: a record that was due was 0.9999999 records, for ever."""
    chance, now_ms, taken = random.Random(7), 123.4567, 0
    pace = Pace(rate, now_ms)
    while now_ms < 600_000:
        now_ms += chance.uniform(0.1, 900.0 / rate)
        records = pace.allowed(now_ms, 200)
        pace.take(records)
        taken += records
    assert pace.allowed(now_ms + pace.wait_ms(now_ms), 200) == 1
    assert rate * 600 * 0.8 < taken <= rate * 600 + 1
