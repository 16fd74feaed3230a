"""What a worker's log says of replays: one line for each part that has ended, none for each record or turn."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek_runtime.core.records.formats import Command, ReplayTally
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output
from tests.engine.harness import Rig
from tests.engine.keeper import SHARDS, ended, fed, give, keeper, notes, order, tally


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 1)
    made.log.create_topic("entries", 3, {})
    yield made
    made.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return sorted(message for message in caplog.messages if message.startswith("replay "))


def test_a_line_for_each_part_that_has_ended(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "odradek")
    rig.start(keeper())
    fed(rig)
    order(rig, "fix", rate=200.0)
    rig.until(lambda: ended(rig, "fix"))
    rig.restart(keeper())
    assert told(caplog) == [
        f"replay fix of entries[{number}] is done: of offsets 0 to 20 up to 20, 20 records delivered, 0 passed over, "
        "0 offsets were gone; begun by ann@laptop"
        for number in range(3)
    ]


def test_who_has_cancelled_it_stands_with_what_it_had_delivered(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "odradek")
    rig.start(keeper())
    fed(rig)
    order(rig, "slow", rate=5.0)
    rig.until(lambda: notes(rig, "slow"))
    for shard in range(SHARDS):
        give(rig, Command(kind="cancel_replay", id="slow", target="bob@laptop"), shard)
    rig.until(lambda: ended(rig, "slow"))
    assert len(told(caplog)) == 3
    assert all("is cancelled (asked for by bob@laptop): of offsets 0 to 20" in line for line in told(caplog))


def test_of_another_apps_letters_the_first_few_are_named_and_all_counted(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.start(keeper())
    told = {"handler": "keeping/kept", "topic": "entries", "partition": "0", "offset": "0", "timestamp-ms": "1700000000000"}
    for app in ("another", "keeper"):
        headers = [(f"odradek-{name}", text.encode()) for name, text in {"app": app, **told}.items()]
        rig.log.publisher(app).publish([Output("keeper.dead-letters", 0, b"k", b"7", headers)] * 50, 1)
    order(rig, "r", "keeper.dead-letters")
    rig.until(lambda: ended(rig, "r"))
    assert tally(rig, "r") == ReplayTally("r", 100, ended_well=50, left_out=50, at_ms=tally(rig, "r").at_ms)
    named = [message for message in caplog.messages if "is left out: it is a dead letter of the app 'another'" in message]
    assert len(named) == 10
    assert named[-1].endswith("; others are left out without a word, and counted")
