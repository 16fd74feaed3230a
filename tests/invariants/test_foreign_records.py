"""What somebody else has written into the app's journal or state is left out and told of; it ends no worker, and loses nothing."""


import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import (
    CHUNK,
    COMMAND,
    INVOCATION,
    LOCK,
    POSITIONS,
    SLOT,
    STORE_POSITION,
    TIMER,
    Chunk,
    Command,
    Entry,
    Lock,
    Position,
    Positions,
    Slot,
    Stored,
    StorePosition,
    Timer,
)
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.records.sieve import Sieve
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError
from odradek_runtime.routing import fresh_id
from odradek_runtime.store.store import Change
from tests.invariants.test_takeovers import APP, JOURNAL, STATE, Legacy, positions

ID, OTHER = fresh_id(b"k", b"123456789012"), fresh_id(b"c", b"abcdefghijkl")
LX = b"lo/k"
NEWER = b"\xc3\x01newerodr" + b"whatever"


@pytest.fixture
def legacy(log: EmbeddedLog, tmp_path: Path) -> Iterator[Legacy]:
    made = Legacy(log, tmp_path)
    yield made
    made.close()


JOURNALED: list[Change] = [
    (b"lx", b"\xff"),
    (b"", b"x"),
    (b"", None),
    (b"zz", b"zz"),
    (b"m", STORE_POSITION.encode(StorePosition("", "", 10**6, 10**6, 0))),
    (b"m", b"m"),
    (b"so/k/n", b"99"),
    (b"s", b""),
    (b"\xff\xff", b"\x00"),
    (b"i", b""),
    (b"i\xff", INVOCATION.encode(Stored(ID, "a/b", b"", None, []))),
    (keys.invocation(ID), b"\xff"),
    (keys.invocation(ID), LOCK.encode(Lock(ID, 0, 0))),
    (keys.invocation(ID), INVOCATION.encode(Stored(OTHER, "a/b", b"", None, []))),
    (keys.invocation("inv_short"), INVOCATION.encode(Stored("inv_short", "a/b", b"", None, []))),
    (keys.invocation(ID), INVOCATION.encode(Stored(ID, "a/b", b"", None, [], caller_app="x", caller_id="none"))),
    (keys.invocation(ID), INVOCATION.encode(Stored(ID, "a/b", b"", None, [], "failed", failure=Failure(7, "")))),
    (keys.invocation(ID), INVOCATION.encode(Stored(ID, "a/b", b"", None, [], retain_ms=-(2**62)))),
    (keys.invocation(ID), INVOCATION.encode(Stored(ID, "a/b", b"", None, [], retain_ms=2**63 - 1))),
    (keys.invocation(ID), INVOCATION.encode(Stored(ID, "a/b", b"", None, [], attempts=-1))),
    (keys.chunk(ID, 1), CHUNK.encode(Chunk([Entry("sleep", 0, at_ms=-1.0)]))),
    (LX, LOCK.encode(Lock(ID, 0, 2**63 - 1))),
    (keys.timer(0, ID, 0), TIMER.encode(Timer("step", attempt=-5))),
    (b"p", POSITIONS.encode(Positions(1, 1, 9, 2**63 - 1, 0, []))),
    (b"p", POSITIONS.encode(Positions(1, 1, 9, 0, -5, []))),
    (b"p", POSITIONS.encode(Positions(1, 1, 9, 0, 0, [], clock=2**31 - 1))),
    (keys.chunk(ID, 1), b"\xff"),
    (keys.chunks(ID), CHUNK.encode(Chunk([]))),
    (keys.chunk(ID, 1), CHUNK.encode(Chunk([Entry("completion", -1)]))),
    (keys.chunk(ID, 1), CHUNK.encode(Chunk([Entry("sleep", 0, at_ms=float("nan"))]))),
    (keys.chunk(ID, 1), CHUNK.encode(Chunk([Entry("completion", 0, failure=Failure(0, ""))]))),
    (LX, b"\xff"),
    (b"lo", LOCK.encode(Lock(ID, 0, 0))),
    (LX, LOCK.encode(Lock("nobody", 0, 0))),
    (LX, LOCK.encode(Lock(ID, 5, 0))),
    (keys.slot(LX, 0), b"\xff"),
    (b"q", SLOT.encode(Slot(ID))),
    (keys.slot(LX, 0), SLOT.encode(Slot("nobody"))),
    (b"t", TIMER.encode(Timer("sleep"))),
    (b"t" * 43, TIMER.encode(Timer("sleep"))),
    (keys.timer(0, ID, 0), b"\xff"),
    (keys.timer(0, ID, 0), TIMER.encode(Timer("retry"))),
    (keys.timer(0, ID, keys.REF_TIMEOUT), TIMER.encode(Timer("unknown"))),
    (keys.timer(2**64 - 1, ID, 0), TIMER.encode(Timer("sleep"))),
    (b"ax", COMMAND.encode(Command("complete", id=OTHER))),
    (keys.attachment(ID, OTHER, 1), b"\xff"),
    (keys.attachment(ID, OTHER, 1), COMMAND.encode(Command("complete", id=OTHER, ref=2))),
    (keys.attachment(ID, OTHER, 1), COMMAND.encode(Command("invoke", id=OTHER, ref=1))),
    (b"o", COMMAND.encode(Command("complete", id=OTHER))),
    (b"oother/12345678", b"\xff"),
    (b"oa b/12345678", COMMAND.encode(Command("complete", id=OTHER))),
    (b"oother/12345678", COMMAND.encode(Command("complete", id="none"))),
    (b"z\xff", SLOT.encode(Slot(ID))),
    (keys.paused(ID), SLOT.encode(Slot(OTHER))),
    (b"o", COMMAND.encode(Command("complete", id=OTHER))),
    (keys.outbox_slot("shop", 1), b"\xff"),
    (keys.outbox_slot("a b", 1), COMMAND.encode(Command("complete", id=OTHER))),
    (keys.outbox_slot("shop", 1), COMMAND.encode(Command("complete", id="nobody"))),
    (keys.outbox_slot("shop", 1), COMMAND.encode(Command("barrier", id=OTHER))),
    (b"p", b"\xff"),
    (b"p", None),
    (b"p", b""),
    (b"px", positions(1, 9)),
    (b"p", POSITIONS.encode(Positions(1, -1, 0, 0, 0, []))),
    (b"p", POSITIONS.encode(Positions(2, 1, 9, 0, 0, [Position("in", 1, 7)]))),
    (b"p", POSITIONS.encode(Positions(0, 1, 9, 0, 0, [Position("in", 1, 7)]))),
    (b"p", POSITIONS.encode(Positions(1, 1, 9, 0, 0, [Position("in", -1, 7)]))),
    (b"p", POSITIONS.encode(Positions(1, 1, 9, 0, 0, [], journal_id="another"))),
    (b"p", positions(1, 1)),
]
STATED: list[tuple[bytes, bytes | None, bytes | None]] = [
    (b"", b"1", b"1.1"),
    (b"o/k", b"1", b"1.1"),
    (b"o//n", b"1", b"1.1"),
    (b"o/k/n/m", b"1", b"1.1"),
    (b"o/k/\xff", b"1", b"1.1"),
    (b"\xff/k/n", b"1", b"1.1"),
    (b"o/k/n", b"99", None),
    (b"o/k/n", None, None),
    (b"o/k/n", b"99", b""),
    (b"o/k/n", b"99", b"1"),
    (b"o/k/n", b"99", b"x.y"),
    (b"o/k/n", b"99", b"9" * 5_000 + b".1"),
]


def test_every_kind_of_key_that_there_is_is_known() -> None:
    """One that is made and not known would be told of as a stranger's at every take-over."""
    told = set(re.findall(r"`([a-z])` [a-z]", keys.__doc__ or "")) - {"m", "s"}

    assert {"i", "p", "z"} < told <= {kind.decode() for kind in Sieve(1, 0).kinds}


def only_error(caplog: pytest.LogCaptureFixture) -> str:
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return said


@pytest.mark.parametrize("where", ["behind", "between"])
@pytest.mark.parametrize(("key", "value"), JOURNALED, ids=map(str, range(len(JOURNALED))))
def test_a_journal_record_that_is_not_ours_is_left_out_and_told_of(
    legacy: Legacy, caplog: pytest.LogCaptureFixture, key: bytes, value: bytes | None, where: str
) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")], [(keys.invocation(OTHER), INVOCATION.encode(Stored(OTHER, "a/b", b"", None, [])))])
    if where == "behind":
        legacy.epoch(2, [(b"o/k/n", b"2")])
        legacy.write(JOURNAL, (key, value))
    else:
        legacy.epoch(2, [])
        legacy.write(JOURNAL, (key, value))
        legacy.epoch(3, [(b"o/k/n", b"2")])

    shard = legacy.taken_over()

    assert shard.read(b"so/k/n") == b"2"
    assert shard.incarnation == 2
    assert shard.read(keys.invocation(OTHER)) is not None
    ours = [keys.invocation(OTHER), b"m", b"p", b"so/k/n"]
    assert [key for key, _ in shard.store.scan(b"", b"\xff" * 9)] == ours
    if where == "behind" or key != b"p":
        said = only_error(caplog)
        assert said.startswith(f"{APP}.journal[0]: 1 records are not this app's own and are left out; the first: @")
        assert shard.foreign == {f"{APP}.journal": 1}


@pytest.mark.parametrize(("key", "value", "by"), STATED, ids=map(str, range(len(STATED))))
def test_a_state_record_that_is_not_ours_is_left_out_and_told_of(
    legacy: Legacy, caplog: pytest.LogCaptureFixture, key: bytes, value: bytes | None, by: bytes | None
) -> None:
    """What a handler reads is what a handler has written: the engine's records say which epoch wrote them."""
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.write(STATE, (key, value), headers=None if by is None else [("odradek", by)])

    shard = legacy.taken_over()

    assert shard.read(b"so/k/n") == b"1"
    assert list(shard.scan_prefix(b"so/k/")) == [(b"so/k/n", b"1")]
    assert only_error(caplog).startswith(f"{APP}.state[0]: 1 records are not this app's own and are left out; the first: @1 ")
    assert shard.foreign == {f"{APP}.state": 1}


def test_what_something_foreign_stands_over_is_written_again(legacy: Legacy) -> None:
    """Compaction keeps the last record of a key: soon nothing but the foreign one would be left."""
    entry = INVOCATION.encode(Stored(OTHER, "a/b", b"", None, []))
    legacy.epoch(1, [(b"o/k/n", b"1")], [(keys.invocation(OTHER), entry)])
    legacy.write(JOURNAL, (keys.invocation(OTHER), b"\xff"), (keys.invocation(ID), b"\xff"))
    legacy.write(STATE, (b"o/k/n", b"99"))

    shard = legacy.taken_over()

    assert shard.changes == {b"so/k/n": b"1", keys.invocation(OTHER): entry}


def test_all_are_counted_and_the_first_are_named(legacy: Legacy, caplog: pytest.LogCaptureFixture) -> None:
    legacy.epoch(1, [])
    legacy.write(JOURNAL, *((b"lx%d" % n, b"\xff") for n in range(1_000)))

    legacy.taken_over()

    said = only_error(caplog)
    assert "1000 records" in said
    assert said.count("@") == 5
    assert "docs/acls.md" in said


# --- positions ---


def test_without_positions_of_ours_nobody_begins_from_the_beginning(legacy: Legacy) -> None:
    """Compaction has left nothing but the foreign record under their key."""
    legacy.write(JOURNAL, (b"p", b"\xff"))

    with pytest.raises(LogError, match=r"heir.journal\[0\] under the key 'p', @0.*--restored-topics.*--start-anew") as refused:
        legacy.taken_over()

    assert not refused.value.retriable


def test_positions_older_than_what_is_gone_are_not_believed(legacy: Legacy) -> None:
    """A store has positions; those that came after are no more, since a foreign record has taken their place."""
    legacy.write(JOURNAL, (keys.invocation(OTHER), None))
    legacy.store(legacy.ends(), (keys.POSITIONS, positions(1, 1)))
    legacy.write(JOURNAL, (b"p", b"\xff"))

    with pytest.raises(LogError, match="not taken over") as refused:
        legacy.taken_over()

    assert not refused.value.retriable


def test_positions_that_the_log_still_has_are_good_whatever_came_after(legacy: Legacy) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.store(legacy.ends(), (b"so/k/n", b"1"), (keys.POSITIONS, positions(1, 1)))
    legacy.write(JOURNAL, (b"p", b"\xff"))

    shard = legacy.taken_over()

    assert (shard.incarnation, shard.read(b"so/k/n")) == (2, b"1")


# --- newer versions ---


@pytest.mark.parametrize("key", [keys.invocation(ID), LX, b"p", keys.timer(0, ID, 0)])
def test_what_a_newer_version_may_have_written_is_not_left_out(legacy: Legacy, key: bytes) -> None:
    """Rolled back, an app would lose invocations, or run two of a key at once; rolled forward again they would stay lost."""
    legacy.epoch(1, [])
    legacy.write(JOURNAL, (key, NEWER))

    with pytest.raises(LogError, match=r"heir.journal\[0\]@1 under key.*run the version of odradek that wrote them") as refused:
        legacy.taken_over()
    assert not refused.value.retriable

    legacy.write(JOURNAL, (key, None))
    assert legacy.taken_over().incarnation == 2


def test_a_kind_of_key_that_a_newer_version_may_have_made_is_kept_for_it(legacy: Legacy) -> None:
    legacy.epoch(1, [], [(b"xx", NEWER)])

    assert legacy.taken_over().store.get(b"xx") == NEWER


# --- stores of an older version ---


def test_a_store_that_already_holds_such_is_sifted(legacy: Legacy) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")])
    bad = [(key, value) for key, value in JOURNALED if value is not None and key[:1] not in (b"m", b"s", b"p")]
    legacy.store(legacy.ends(), (b"so/k/n", b"1"), (keys.POSITIONS, positions(1, 1)), (b"so/k/\xff", b"x"), *bad)

    shard = legacy.taken_over()

    held = [key for key, _ in shard.scan(b"", b"\xff")]
    assert held == [b"m", b"p", b"so/k/n"]


def test_a_store_whose_positions_are_not_ours_is_rebuilt(legacy: Legacy) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.store(legacy.ends(), (b"so/k/n", b"1"), (keys.POSITIONS, b"\xff"))

    with pytest.raises(Exception, match="positions in the store are not this app's own"):
        legacy.taken_over()
