"""Replays in the engine: each record of a range once more, in order within its key, whatever ends meanwhile."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from odradek_runtime.core.records.formats import COMMAND, REPLAY, Command, Replay, ReplayTally, StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition, Transaction
from odradek_runtime.recovery.replay_report import reports
from odradek_runtime.routing import shard_of
from odradek_runtime.store.store import MemoryStore
from odradek_runtime.worker.engine.pace import Pace
from odradek_runtime.worker.engine.replaying import Course, Reading, Reread
from tests.engine.faults import Verdict
from tests.engine.harness import Rig
from tests.engine.keeper import RECORDS, SHARDS, Rules, ended, fed, give, keeper, notes, order, parts, rows, tally


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 1)
    made.log.create_topic("entries", 3, {})
    yield made
    made.close()


@pytest.mark.parametrize("waits", [False, True])
def test_each_record_once_more_in_order_within_its_key(rig: Rig, waits: bool) -> None:
    class Here(Rules):
        pass

    Here.waits = waits
    rig.start(keeper(Here))
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    order(rig, "fix-1")
    rig.until(lambda: ended(rig, "fix-1"))
    assert Counter(notes(rig, "fix-1")) == Counter(notes(rig, None))
    assert Counter(notes(rig, "fix-1", "seen")) == Counter(notes(rig, None, "seen"))
    for partition in range(3):
        for key in {key for key, _ in notes(rig, None)}:
            of_key = [value for found, value in notes(rig, "fix-1") if found == key and value % 3 == partition]
            assert of_key == sorted(of_key)
    assert tally(rig, "fix-1") == ReplayTally("fix-1", started=2 * RECORDS, ended_well=2 * RECORDS)
    assert sum(part.records for part in parts(rig, "fix-1")) == RECORDS


def test_one_handler_and_some_keys_alone(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    order(rig, "some", handler="keeping/kept", keys=[b"k1", b"k2"])
    rig.until(lambda: ended(rig, "some"))
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    assert Counter(notes(rig, "some")) == Counter(note for note in notes(rig, None) if note[0] in ("k1", "k2"))
    assert notes(rig, "some", "seen") == []
    assert sum(part.records + part.passed for part in parts(rig, "some")) == RECORDS


def test_the_keys_of_a_part_are_written_once_however_many_turns_it_takes(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    wanted = [b"k1", *(b"nobody-%d" % n for n in range(500))]
    order(rig, "few", keys=wanted, rate=100.0)
    rig.until(lambda: ended(rig, "few"))
    rig.restart(keeper())
    written = [message.value() or b"" for message in rig.records("keeper.journal")]
    assert sum(b"nobody-7" in value for value in written) == 3, "once for each partition"
    assert sum(b"few" in value for value in written) > 8
    assert reports(rows(rig))[0].keys == wanted
    assert {value for _, value in notes(rig, "few")} == {value for value in range(RECORDS) if value % 7 == 1}


def test_a_repeated_order_does_nothing_and_two_replays_are_two(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    for id_ in ("one", "two", "one"):
        order(rig, id_)
    rig.until(lambda: ended(rig, "one") and ended(rig, "two"))
    order(rig, "one")
    fed(rig, 1)
    rig.until(lambda: len(notes(rig, None)) == RECORDS + 1)
    assert len(notes(rig, "one")) == len(notes(rig, "two")) == RECORDS


@pytest.mark.parametrize("crash", [False, True])
def test_it_goes_on_where_it_was_after_a_restart(rig: Rig, crash: bool) -> None:
    rig.start(keeper())
    fed(rig)
    order(rig, "slow", rate=20.0)
    for turn in range(1, 4):
        rig.until(lambda turn=turn: len(notes(rig, "slow")) >= 5 * turn)
        rig.restart(keeper(), crash=crash)
    rig.until(lambda: ended(rig, "slow"))
    assert Counter(notes(rig, "slow")) == Counter(notes(rig, None))
    assert tally(rig, "slow").ended_well == 2 * RECORDS


def test_its_keys_outlive_a_restart(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    order(rig, "slow", rate=20.0, keys=[b"k1", b"k2"])
    rig.until(lambda: notes(rig, "slow"))
    rig.restart(keeper(), crash=True)
    rig.until(lambda: ended(rig, "slow"))
    assert Counter(notes(rig, "slow")) == Counter(note for note in notes(rig, None) if note[0] in ("k1", "k2"))


def test_cancelled_it_stops_and_what_is_under_way_ends(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    order(rig, "slow", rate=5.0)
    rig.until(lambda: notes(rig, "slow"))
    for shard in range(SHARDS):
        give(rig, Command(kind="cancel_replay", id="slow", target="bob@laptop"), shard)
    rig.until(lambda: ended(rig, "slow"))
    assert {part.status for part in parts(rig, "slow")} == {"cancelled"}
    assert 0 < len(notes(rig, "slow")) < RECORDS
    assert len(notes(rig, "slow")) == sum(part.records for part in parts(rig, "slow"))


def test_dead_letters_go_back_to_where_they_failed(rig: Rig) -> None:
    class Fixed(Rules):
        bad = frozenset(range(0, RECORDS, 4))

    rig.start(keeper(Fixed))
    fed(rig)
    rig.until(lambda: len(rig.dead_letters(keeper())) == 15)
    Fixed.bad = frozenset({8})
    order(rig, "redrive-1", "keeper.dead-letters")
    rig.until(lambda: ended(rig, "redrive-1"))
    assert tally(rig, "redrive-1") == ReplayTally("redrive-1", started=15, ended_well=14, dead_letters=1)
    assert Counter(value for _, value in notes(rig, "redrive-1")) == Counter(set(range(0, RECORDS, 4)) - {8})
    (again,) = [letter for letter in rig.dead_letters(keeper()) if "odradek-redriven" in letter]
    assert (again["odradek-redriven"], again["odradek-replay"], again["value"]) == ("1", "redrive-1", "8")
    assert (again["odradek-topic"], again["odradek-partition"], again["odradek-offset"]) == ("entries", "2", "2")
    order(rig, "redrive-2", "keeper.dead-letters", first=0)
    rig.until(lambda: ended(rig, "redrive-2"))
    counts = [letter.get("odradek-redriven", "0") for letter in rig.dead_letters(keeper()) if letter["value"] == "8"]
    assert sorted(counts) == ["0", "1", "1", "2"], "the letter that it was at first is there still, and was sent back again"


def test_two_letters_of_one_record_are_two(rig: Rig) -> None:
    """They bear the same place; as one invocation the second would take the place of the first, which waits."""

    class Here(Rules):
        bad = frozenset({4, 5, 6})
        waits = True

    rig.start(keeper(Here))
    fed(rig, 10)
    rig.until(lambda: len(rig.dead_letters(keeper())) == 3)
    order(rig, "again", "keeper.dead-letters")
    rig.until(lambda: ended(rig, "again"))
    assert len(rig.dead_letters(keeper())) == 6
    Here.bad = frozenset()
    order(rig, "fixed", "keeper.dead-letters")
    rig.until(lambda: ended(rig, "fixed"))
    assert tally(rig, "fixed") == ReplayTally("fixed", started=6, ended_well=6)
    assert sorted(value for _, value in notes(rig, "fixed")) == [4, 4, 5, 5, 6, 6]


SOUND = {
    "odradek-handler": "keeping/kept",
    "odradek-topic": "entries",
    "odradek-partition": "0",
    "odradek-offset": "0",
    "odradek-timestamp-ms": "1700000000000",
}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"odradek-handler": "keeping/kept"},
        {**SOUND, "odradek-offset": "9999999999999999999999999"},
        {**SOUND, "odradek-partition": "1099511627776"},
        {**SOUND, "odradek-timestamp-ms": "-99999999999999999999"},
        {**SOUND, "odradek-offset": "x"},
        {**SOUND, "odradek-handler": "gone/gone"},
        {**SOUND, "odradek-topic": "another"},
        {**SOUND, "odradek-app": "another"},
        {**SOUND, "odradek-value-bytes": "7"},
        {**SOUND, "own": "1", "odradek-headers-bytes": "7"},
    ],
)
def test_a_letter_that_says_nonsense_is_left_out_and_stops_nobody(rig: Rig, headers: dict[str, str]) -> None:
    class Here(Rules):
        waits = True

    rig.start(keeper(Here))
    told = [(name, text.encode()) for name, text in headers.items()]
    publisher = rig.log.publisher("stranger")
    publisher.publish([Output("keeper.dead-letters", 0, b"k", b"7", told)], 1)
    order(rig, "r", "keeper.dead-letters")
    rig.until(lambda: ended(rig, "r"))
    assert tally(rig, "r") == ReplayTally("r", started=1, left_out=1)


def test_a_cancelled_replay_that_had_not_begun_can_be_cancelled_later(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    for _ in range(2):
        for shard in range(SHARDS):
            give(rig, Command(kind="cancel_replay", id="slow"), shard)
        order(rig, "slow", rate=1.0)
    for shard in range(SHARDS):
        give(rig, Command(kind="cancel_replay", id="slow"), shard)
    rig.until(lambda: bool(parts(rig, "slow")) and {part.status for part in parts(rig, "slow")} == {"cancelled"})


def test_it_has_not_ended_before_every_part_has_begun(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    part = Replay("one-of-two", "entries", 0, 0, 0, 1, parts=2)
    give(rig, Command(kind="replay", id=part.id, payload=REPLAY.encode(part)), 0)
    rig.until(lambda: [each.status for each in parts(rig, part.id)] == ["done"])
    (report,) = reports(rows(rig))
    assert (report.status, report.parts_due, len(report.parts)) == ("running", 2, 1)
    part.partition = 1
    give(rig, Command(kind="replay", id=part.id, payload=REPLAY.encode(part)), 1)
    rig.until(lambda: reports(rows(rig))[0].status == "done")


def test_a_range_that_goes_beyond_the_end_ends_there(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    order(rig, "far", stop=10_000)
    rig.until(lambda: ended(rig, "far"))
    assert len(notes(rig, "far")) == RECORDS


def test_a_reader_that_fails_ends_its_part(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("entries")

    rig.start(keeper())
    fed(rig)
    monkeypatch.setattr("odradek_runtime.worker.engine.rereader.bounds", fails)
    order(rig, "x")
    rig.until(lambda: ended(rig, "x"))
    assert {(part.status, part.reason) for part in parts(rig, "x")} == {("broken", "its reader has failed: KeyError")}


def test_a_shard_that_leaves_keeps_nobody_busy() -> None:
    shard = Shard(0, 1, 1, 0, MemoryStore(), StorePosition("", "", 0, 0, 0))
    course = Course(shard, Replay("x", "e", 0, 0, 0, 9), Reading(Partition("e", 0), "", 0, 9), Pace(0.0, 0.0))
    course.batches.append(Reread(course.reading, (), 9))
    shard.phase = "open"
    assert course.wait_ms(5.0) == 0.0
    shard.phase = "leaving"
    assert course.wait_ms(5.0) == float("inf")


def test_what_is_gone_of_the_range_is_said(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    rig.log.trim(Partition("entries", 0), 5)
    order(rig, "late", first=0)
    rig.until(lambda: ended(rig, "late"))
    assert {part.partition: part.gone for part in parts(rig, "late")} == {0: 5, 1: 0, 2: 0}
    assert len(notes(rig, "late")) == RECORDS - 5


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("topic", {"topic": "keeper.journal"}),
        ("topic", {"topic": "notes"}),
        ("handler", {"handler": "keeping/none"}),
        ("payload", {"id": "reset-1"}),
        ("payload", {"id": "a/b"}),
        ("payload", {"status": "done"}),
        ("payload", {"first": -1}),
        ("payload", {"records": 2**63 - 1}),
        ("payload", {"gone": 1}),
        ("payload", {"stop": -1}),
        ("payload", {"first": 7, "stop": 3}),
        ("payload", {"partition": 1}),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(rig: Rig, field: str, change: dict[str, Any]) -> None:
    rig.start(keeper())
    part = Replay("x", "entries", 0, 0, 0, 1)
    for name, value in change.items():
        setattr(part, name, value)
    part.next = part.first
    give(rig, Command(kind="replay", id="x", payload=REPLAY.encode(part)), 0)
    rig.until(lambda: rig.dead_letters(keeper()))
    (letter,) = rig.dead_letters(keeper())
    assert letter["odradek-field"] == field
    assert parts(rig, "x") == []


def test_a_record_that_the_log_refuses_to_take_further_is_a_dead_letter(rig: Rig) -> None:
    """Seed 57030 of the simulation: its epoch failed, the replay began where it had been, and so for ever."""
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    bad = next(n for n in range(RECORDS) if shard_of(f"k{n % 7}".encode(), SHARDS) != n % 3 % SHARDS)

    def judged(transaction: Transaction) -> Verdict:
        outputs = [Output(*output) for output in transaction.outputs]
        commands = [COMMAND.decode(output.value or b"") for output in outputs if output.topic == "keeper.commands"]
        return "poison" if any(c.id == "fix" and c.payload == b"%d" % bad for c in commands) else "pass"

    rig.log.judge = judged
    assert rig.worker._engine is not None
    rig.worker._engine.machine.handover_limit = 0  # as if the other shard were another worker's
    order(rig, "fix", handler="keeping/kept")
    rig.until(lambda: ended(rig, "fix"))
    assert tally(rig, "fix") == ReplayTally("fix", started=RECORDS, ended_well=RECORDS - 1, dead_letters=1)
    (letter,) = rig.dead_letters(keeper())
    assert letter["odradek-replay"] == "fix" and "refused to take it any further" in letter["odradek-error"]
    assert Counter(notes(rig, None)) - Counter(notes(rig, "fix")) == Counter([(f"k{bad % 7}", bad)])


def test_keys_of_other_shards_are_replayed_there(rig: Rig) -> None:
    """The test above would not show it if every key lived where its records lie."""
    fed(rig)
    assert any(shard_of(f"k{n % 7}".encode(), SHARDS) != n % 3 % SHARDS for n in range(RECORDS))
