"""Verifications on a running worker: a sound store is found sound under load, and what was planted is found, alone."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import STORE_POSITION
from odradek_runtime.log.port import Output
from odradek_runtime.store.store import Store
from odradek_runtime.worker.upkeep.census import Census
from odradek_runtime.worker.upkeep.jobs import Difference, Findings
from odradek_runtime.worker.upkeep.verification import SHOWN
from tests.engine.damage import flip, tables
from tests.engine.harness import Rig
from tests.engine.ledger import ALICE, amid, benches, done, filled, found_by, ledger, load, shard_of, stored


def test_a_sound_store_is_found_sound_under_load(disk_rig: Rig) -> None:
    rig = disk_rig
    filled(rig)
    published: list[int] = []
    found: list[Findings] = []
    with load(rig, published):
        while len({each.journal_offset for each in found}) < 4:
            found.append(found_by(done(rig)))
    for each in found:
        assert (each.differences, each.shown, each.unknown, each.foreign) == (0, [], 0, {})
        assert each.keys > 200
        assert each.records > 200
    assert benches(rig) == []


def test_stores_in_memory_are_verified_too(rig: Rig) -> None:
    filled(rig)
    assert found_by(done(rig)).differences == 0


def changed(store: Store) -> Difference:
    key = b"saccount/k007/total"
    assert store.get(key) is not None
    store.write([(key, b"123456")])
    return Difference("state", "account/k007/total", 6, 4)


def removed(store: Store) -> Difference:
    key, value = next(iter(store.scan(b"i", b"j")))
    store.write([(key, None)])
    return Difference("invocation", key[1:].decode(), None, len(value))


def added(store: Store) -> Difference:
    store.write([(b"saccount/nobody/total", b"7")])
    return Difference("state", "account/nobody/total", 1, None)


def added_of_no_kind(store: Store) -> Difference:
    store.write([(b"\x07what", b"7")])
    return Difference("of no known kind", "'\\x07what'", 1, None)


def a_lost_timer(store: Store) -> Difference:
    key, value = next(iter(store.scan(b"t", b"u")))
    _, id_, _ = keys.split_timer(key)
    store.write([(key, None)])
    return Difference("timer", id_, None, len(value))


@pytest.mark.parametrize("plant", [changed, removed, added, added_of_no_kind, a_lost_timer])
def test_a_planted_difference_is_found_and_nothing_else(
    disk_rig: Rig, plant: Callable[[Store], Difference], caplog: pytest.LogCaptureFixture
) -> None:
    worker = filled(disk_rig)
    planted = plant(shard_of(worker).store)
    with caplog.at_level(logging.INFO, "odradek"):
        found = found_by(done(disk_rig))
    assert found.differences == 1
    (shown,) = found.shown
    assert (shown.kind, shown.store_bytes, shown.log_bytes) == (planted.kind, planted.store_bytes, planted.log_bytes)
    assert shown.key.startswith(planted.key)
    assert f"{ALICE} wants its store verified" in caplog.text
    assert f"the first: {planted.kind} {planted.key}" in caplog.text


def test_all_differences_are_counted_and_some_shown(disk_rig: Rig) -> None:
    worker = filled(disk_rig)
    shard_of(worker).store.write([(b"saccount/k%05d/total" % n, b"1") for n in range(3_000)])
    found = found_by(done(disk_rig))
    assert (found.differences, len(found.shown)) == (3_000, SHOWN)


def test_a_copy_is_compared_at_its_own_position(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written meanwhile is not read: it would differ, and be left out."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    at = shard_of(worker).at
    before = (at.journal_offset, at.state_offset)

    def write() -> None:
        rig.publish("entries", *[(f"k{n % 100:03}", n) for n in range(501, 701)])
        rig.settled(app)

    amid(monkeypatch, write)
    found = found_by(done(rig))
    assert (found.journal_offset, found.state_offset) == before
    assert (found.differences, found.written_since) == (0, 0)


def test_compaction_meanwhile_costs_no_false_difference(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is written again behind the store's position, and the records that it had are gone: the positions' as well."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    planted = shard_of(worker).store
    planted.write([(b"saccount/nobody/total", b"7")])

    def write_again_and_compact() -> None:
        rig.publish("entries", *[(f"k{n % 100:03}", n) for n in range(501, 701)])
        rig.settled(app)
        while rig.log.inner.clean():
            pass

    amid(monkeypatch, write_again_and_compact)
    found = found_by(done(rig))
    assert [each.key for each in found.shown] == ["account/nobody/total"]
    assert found.differences == 1
    assert found.written_since >= 101, "a hundred totals, and the positions"


def test_what_a_torn_epoch_left_is_no_difference(disk_rig: Rig) -> None:
    """Put right by the take-over that met it, its records stay in the changelogs for ever."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    shard = shard_of(worker)
    key, value = next(iter(shard.store.scan(b"i", b"j")))
    stamp = [("odradek", b"%d.%d" % (shard.incarnation, 10**9))]
    rig.stop()
    publisher = rig.log.publisher("torn")
    torn = [Output("ledger.journal", 0, b"i" + key[1:], None), Output("ledger.state", 0, b"account/k007/total", b"-1", stamp)]
    publisher.publish(torn, 1)
    worker = rig.start(app)
    stored(rig)
    assert shard_of(worker).store.get(key) == value
    assert found_by(done(rig)).differences == 0
    rig.publish("entries", ("k007", 7))
    rig.settled(app)
    assert found_by(done(rig)).differences == 0


def test_what_others_wrote_is_left_out_and_told(disk_rig: Rig) -> None:
    rig = disk_rig
    filled(rig)
    publisher = rig.log.publisher("stranger")
    publisher.publish([Output("ledger.state", 0, b"no key of ours", b"x"), Output("ledger.journal", 0, b"\x01", b"x")], 1)
    rig.publish("entries", ("k001", 1), ("k002", 2))
    rig.settled(ledger())
    stored(rig)
    found = found_by(done(rig))
    assert (found.differences, found.foreign) == (0, {"ledger.state": 1, "ledger.journal": 1})


def test_a_damaged_store_is_told_with_the_way_out(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Census, "round", lambda _: None)  # it would come upon the damage, and have the shard rebuilt
    worker = filled(disk_rig)
    store = shard_of(worker).store
    store.flush()
    assert disk_rig.directory is not None
    flip(tables(disk_rig.directory / "store" / "ledger" / "0")[0], 0.1, 0.3, 0.5)
    given = done(disk_rig)
    assert given.status == "failed"
    assert "is damaged" in given.reason
    assert "odradek rebuild --shard 0" in given.reason
    assert benches(disk_rig) == []


def test_a_copy_is_what_the_store_is_between_two_writes(disk_rig: Rig, tmp_path: Path) -> None:
    worker = filled(disk_rig)
    live = shard_of(worker).store
    copy = live.checkpoint(tmp_path / "copy")
    before = dict(live.scan(b"", b"\xff"))
    live.write([(b"z", b"later"), (keys.STORE_POSITION, None)])
    assert dict(copy.scan(b"", b"\xff")) == before
    assert STORE_POSITION.decode(copy.get(keys.STORE_POSITION) or b"") == shard_of(worker).at
    live.write([(b"z", None), (keys.STORE_POSITION, before[keys.STORE_POSITION])])
    copy.close()
