"""Inputs that are deleted and made again while the app runs: other records at the same offsets, perhaps fewer partitions."""

from dataclasses import replace

import pytest

from odradek import App, Context
from odradek_runtime.log.port import LogError, Partition
from tests.engine.harness import Rig


def test_an_input_that_was_made_again_while_the_app_runs_is_read_from_its_beginning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records lie below the position that the topic before it was read to: they would be dropped as known."""
    app = App("anew", shards=1)
    again = app.topic("again", value=int)
    seen: list[str] = []

    @app.on(again)
    async def see(ctx: Context, value: int) -> None:
        seen.append(str(ctx.uuid()))  # follows from the id

    rig.log.create_topic("again", 1, {})
    whole = rig.log.topic
    topic = rig.log.topic("again")
    assert topic is not None
    other = replace(topic, id="another")
    worker = rig.start(app)
    rig.publish("again", (None, 0))
    rig.until(lambda: seen)
    assert worker._housekeeping.changed() == ([], [])
    monkeypatch.setattr(rig.log, "topic", lambda name: other if name == "again" else whole(name))
    assert worker._housekeeping.changed() == ([], ["again"])
    worker._housekeeping.look_at_inputs()
    rig.until(lambda: len(set(seen)) == 2)  # and what lies at the same offset is another record: another invocation


def test_an_input_that_is_made_again_with_fewer_partitions_is_noticed_and_holds_nobody_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka refuses an offset for a partition that is gone: a transaction that carried one would never commit."""
    app = App("fewer", shards=1)
    again = app.topic("again", value=int)
    seen: list[int] = []

    @app.on(again)
    async def see(ctx: Context, value: int) -> None:
        seen.append(value)

    rig.log.create_topic("again", 2, {})
    topic, whole, offsets = rig.log.topic("again"), rig.log.topic, rig.log.offsets
    assert topic is not None
    fewer, gone = replace(topic, id="another", partitions=1), Partition("again", 1)

    def only_one(partition: Partition) -> tuple[int, int]:
        if partition == gone:
            raise LogError("there is no such partition", retriable=False)
        return offsets(partition)

    worker = rig.start(app)
    rig.publish("again", (None, 1), partition=0)
    rig.publish("again", (None, 2), partition=1)
    rig.until(lambda: len(seen) == 2)
    worker._housekeeping._watched_s = 0.0
    monkeypatch.setattr(rig.log, "topic", lambda name: fewer if name == "again" else whole(name))
    monkeypatch.setattr(rig.log, "offsets", only_one)
    worker._housekeeping.round()
    rig.until(lambda: len(seen) == 3)  # from its beginning
    assert worker._engine is not None
    assert gone not in worker._engine.machine.shards[0].positions
    rig.until(lambda: worker.ready)
    assert gone not in rig.log.transactions[-1].offsets
