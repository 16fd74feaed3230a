"""How long it is known of a replay that it has been: a week, in every shard that knows of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek_runtime.core.records.formats import REPLAY, Command, Replay
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Partition
from tests.engine.harness import Rig
from tests.engine.keeper import ended, fed, give, keeper, rows

DAY_S = 86_400


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 1)
    made.log.create_topic("entries", 3, {})
    yield made
    made.close()


def replayed(rig: Rig, id_: str) -> None:
    """Partition 1 alone, which shard 1 reads; half of its keys live on shard 0, and the tally is that of the first shard."""
    first, stop = rig.log.offsets(Partition("entries", 1))
    part = Replay(id_, "entries", 1, first, first, stop, handler="keeping/kept", parts=1)
    give(rig, Command(kind="replay", id=id_, payload=REPLAY.encode(part)), 1)
    rig.until(lambda: ended(rig, id_))


def known(rig: Rig) -> set[bytes]:
    return {key for key, _ in rows(rig)}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_week_later_nothing_is_left_of_it_in_any_shard(rig: Rig, restarted: bool) -> None:
    rig.start(keeper())
    fed(rig)
    replayed(rig, "old")
    assert any(number == 0 and key == b"uold" for number, key in shards(rig)), "a shard without a part counts, too"
    rig.later(6 * DAY_S)
    replayed(rig, "mid")
    assert b"uold" in known(rig)
    rig.later(1.5 * DAY_S)
    if restarted:
        rig.restart(keeper())
    replayed(rig, "new")
    rig.until(lambda: not any(b"old" in key for key in known(rig)))
    assert {b"umid", b"unew"} <= known(rig)
    rig.restart(keeper())
    assert not any(b"old" in key for key in known(rig))


def shards(rig: Rig) -> list[tuple[int, bytes]]:
    engine = rig.worker._engine
    assert engine is not None
    return [(shard.number, key) for shard in engine.machine.shards.values() for key in list(shard.replay_rows)]
