"""A record that is delivered again, as replays and resets do: what it starts is an invocation of its own, and can tell."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek import App, ObjectContext, State
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.embedded import EmbeddedLog
from tests.engine.harness import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 0)
    yield made
    made.close()


def watcher() -> App:
    app = App("watcher", shards=1)
    entries, seen = app.topic("entries", value=int), app.topic("seen", value=str)
    count, watched = State("count", int, default=0), app.object("watched")

    @watched.on(entries)
    async def entered(ctx: ObjectContext, value: int) -> None:
        before = ctx.record.replay
        ctx.set(count, ctx.get(count) + 1)
        await ctx.sleep(0.001)
        ctx.publish(seen, f"{ctx.get(count)} {before} {ctx.record.replay}", key=ctx.key)

    return app


def again(rig: Rig, id_: str, value: bytes = b"7") -> None:
    """Deliver the first record of `entries` once more, in the way that a record takes whose key lives on another shard."""
    command = Command(
        kind="forward", id=id_, target="watched/entered", topic="entries", partition=0, offset=0, key=b"k", payload=value
    )
    rig.publish("watcher.commands", (None, COMMAND.encode(command)), partition=0)


def said(rig: Rig) -> list[str]:
    return [(message.value() or b"").decode() for message in rig.records("seen")]


def test_it_is_another_invocation_than_the_first_and_knows_what_delivered_it(rig: Rig) -> None:
    rig.start(watcher())
    rig.publish("entries", ("k", 7))
    rig.until(lambda: len(said(rig)) == 1)
    for id_ in ("one", "two"):
        again(rig, id_)
        rig.until(lambda told=f" {id_} {id_}": said(rig)[-1].endswith(told))
    assert said(rig) == ["1 None None", "2 one one", "3 two two"]


def test_a_dead_letter_says_what_delivered_it(rig: Rig) -> None:
    rig.start(watcher())
    rig.publish("entries", ("k", 7))
    again(rig, "one", b'"no number"')
    rig.until(lambda: rig.dead_letters(watcher()))
    (letter,) = rig.dead_letters(watcher())
    assert (letter["odradek-replay"], letter["odradek-offset"]) == ("one", "0")


def test_a_command_with_an_id_that_nobody_would_give_is_refused(rig: Rig) -> None:
    rig.start(watcher())
    again(rig, "x" * 101)
    rig.until(lambda: rig.dead_letters(watcher()))
    (letter,) = rig.dead_letters(watcher())
    assert letter["odradek-field"] == "id"
