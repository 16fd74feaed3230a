"""Internal topics that are gone, or are others than they were: the start is refused, and nothing is made again, empty."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from odradek import App, ObjectContext, State
from odradek_runtime.core.records.formats import POSITIONS, STORE_POSITION, Positions, StorePosition
from odradek_runtime.core.records.keys import POSITIONS as POSITIONS_KEY
from odradek_runtime.core.records.keys import STORE_POSITION as STORE_POSITION_KEY
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.store.store import RocksStore
from odradek_runtime.worker.restore import internal
from odradek_runtime.worker.restore.start_anew import losses, start_anew
from odradek_runtime.worker.restore.startup import StartupError
from tests.engine.harness import Rig

RECORDS = 20


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(internal, "LOOK_AGAIN_S", 0.0)
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    yield made
    made.close()


def teller(shards: int | None = 2) -> App:
    """Counts each key's records, and publishes the counts."""
    app = App("teller", shards=shards)
    entries, counts = app.topic("entries", value=int), app.topic("counts", value=int)
    count, account = State("count", int, default=0), app.object("account")

    @account.on(entries)
    async def entered(ctx: ObjectContext, value: int) -> None:
        ctx.set(count, ctx.get(count) + 1)
        ctx.publish(counts, ctx.get(count), key=ctx.key)

    @account.handler
    async def total(ctx: ObjectContext) -> int:
        return ctx.get(count)

    return app


def lived(rig: Rig) -> None:
    """It has run, and was stopped."""
    rig.start(teller())
    rig.publish("entries", *[(f"k{number % 4}", number) for number in range(RECORDS)])
    rig.settled(teller())
    rig.stop()


def refused(rig: Rig) -> str:
    with pytest.raises(StartupError) as error:
        rig.begin(teller())
    rig.workers.pop()
    return str(error.value)


def stopped(rig: Rig, **settings: object) -> str:
    worker = rig.begin(teller(), **settings)
    error = rig.until_failed(worker)
    assert isinstance(error, LogError)
    assert not error.retriable
    rig.workers.pop().stop()
    return str(error)


@pytest.mark.parametrize("gone", [("state",), ("journal",), ("commands",), ("journal", "state"), ("journal", "state", "commands")])
@pytest.mark.parametrize("stores", ["with its stores", "without"])
def test_a_topic_that_is_gone_is_not_made_again(rig: Rig, tmp_path: Path, gone: tuple[str, ...], stores: str) -> None:
    lived(rig)
    for name in gone:
        rig.log.delete_topic(f"teller.{name}")
    if stores == "without":
        shutil.rmtree(tmp_path / "store")

    said = refused(rig)

    assert all(f"teller.{name}" in said and internal.HOLDS[name] in said for name in gone)
    assert "has run before" in said and "--start-anew" in said and "--restored-topics" in said
    assert [name for name in gone if rig.log.topic(f"teller.{name}")] == [], "nothing was made"
    assert len(rig.values("counts")) == RECORDS, "and nothing was processed again"


def test_stores_alone_show_that_it_has_run(rig: Rig, tmp_path: Path) -> None:
    """The folder of the log is gone, that of the stores is not."""
    lived(rig)
    rig.log.close()
    shutil.rmtree(tmp_path / "log")
    rig.log.inner = EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0)

    assert f"{tmp_path / 'store' / 'teller'} holds its state" in refused(rig)


@pytest.mark.parametrize("made", [0, 1, 2, 3])
def test_a_first_start_that_was_interrupted_goes_on(rig: Rig, made: int) -> None:
    rig.log.create_topic("entries", 2, {})
    for name in internal.NAMES[:made]:
        policy = "delete" if name == "commands" else "compact"
        config = {"cleanup.policy": policy, "retention.ms": "-1", "retention.bytes": "-1"}
        rig.log.create_topic(f"teller.{name}", 2, config)

    lived(rig)

    assert len(rig.values("counts")) == RECORDS


def test_workers_that_start_at_once_for_the_first_time_do_not_refuse_one_another(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has seen no topics; by the time it looks for signs of an earlier run, the first has written records."""
    lived(rig)
    topic, hidden = rig.log.topic, {f"teller.{name}" for name in internal.NAMES[1:]}

    def late(name: str) -> object:
        found = topic(name)
        if name in hidden:
            hidden.discard(name)  # it appears between two looks
            return None
        return found

    monkeypatch.setattr(rig.log, "topic", late)
    rig.log.create_topic("teller.dead-letters", 2, {})
    assert internal.lost("teller", rig.log, 2, [], None, pause=lambda _: None) == ""


def test_a_state_topic_made_again_by_somebody_is_not_taken_for_the_one_that_was(rig: Rig, tmp_path: Path) -> None:
    lived(rig)
    rig.log.delete_topic("teller.state")
    rig.log.create_topic("teller.state", 2, {"cleanup.policy": "compact"})
    assert "topic teller.state was deleted and made again" in stopped(rig)
    shutil.rmtree(tmp_path / "store")  # the journal remembers, too
    assert "topic teller.state was deleted and made again" in stopped(rig)


def test_a_commands_topic_made_again_is_noticed(rig: Rig, tmp_path: Path) -> None:
    lived(rig)
    rig.log.delete_topic("teller.commands")
    rig.log.create_topic("teller.commands", 2, {"cleanup.policy": "delete", "retention.ms": "-1"})
    assert "topic teller.commands was deleted and made again" in stopped(rig)


@pytest.mark.parametrize("stores", ["with its stores", "without"])
def test_a_journal_made_again_is_noticed(rig: Rig, tmp_path: Path, stores: str) -> None:
    lived(rig)
    rig.log.delete_topic("teller.journal")
    rig.log.create_topic("teller.journal", 2, {"cleanup.policy": "compact"})
    if stores == "without":
        shutil.rmtree(tmp_path / "store")
    said = stopped(rig)
    assert "teller.journal" in said and "--start-anew" in said
    assert len(rig.values("counts")) == RECORDS


def test_all_made_again_is_noticed_by_the_stores(rig: Rig) -> None:
    lived(rig)
    for name in internal.NAMES:
        found = rig.log.topic(f"teller.{name}")
        assert found is not None
        rig.log.delete_topic(found.name)
        rig.log.create_topic(found.name, 2, found.config)
    rig.log.forget_group("teller")
    assert "teller.journal was deleted and made again" in stopped(rig)


def test_restored_copies_are_taken_when_the_operator_says_so(rig: Rig) -> None:
    lived(rig)
    for name in internal.NAMES[:2]:
        found = rig.log.topic(f"teller.{name}")
        assert found is not None
        copies = [list(rig.partition(found.name, number)) for number in range(2)]
        rig.log.delete_topic(found.name)
        rig.log.create_topic(found.name, 2, found.config)
        for number, messages in enumerate(copies):
            publisher = rig.log.publisher(f"copy-{name}-{number}")
            publisher.publish([Output(found.name, number, m.key(), m.value(), m.headers()) for m in messages], 1)
    assert "was deleted and made again" in stopped(rig)
    rig.start(teller(), restored_topics=True)
    assert rig.call("account/total", key="k1") == RECORDS // 4
    rig.stop()
    rig.start(teller())  # from now on they are the ones that it knows
    assert rig.call("account/total", key="k1") == RECORDS // 4
    assert len(rig.values("counts")) == RECORDS


def test_starting_anew_loses_all_of_it_on_purpose(rig: Rig, tmp_path: Path) -> None:
    lived(rig)
    rig.log.delete_topic("teller.state")
    refused(rig)
    said = losses(teller(), rig.log, [tmp_path])
    assert any("teller.journal" in line for line in said) and any("positions in entries" in line for line in said)

    assert start_anew(teller(), rig.log, [tmp_path], make="inputs") == 2

    rig.start(teller())
    rig.settled(teller())
    assert rig.call("account/total", key="k1") == RECORDS // 4
    assert len(rig.values("counts")) == 2 * RECORDS, "its input is read from the beginning again"


def test_another_machines_store_is_thrown_away_after_a_start_anew(rig: Rig, tmp_path: Path) -> None:
    """It names the topics of the life before, which is over, as the new journal's first record says."""
    lived(rig)
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere" / "store")
    start_anew(teller(), rig.log, [tmp_path], make="inputs")
    rig.settings = replace(rig.settings, data_dir=tmp_path / "elsewhere")
    rig.start(teller())
    rig.settled(teller())
    assert rig.call("account/total", key="k1") == RECORDS // 4


def test_nobody_starts_anew_beside_a_worker(rig: Rig, tmp_path: Path) -> None:
    rig.start(teller())
    with pytest.raises(StartupError, match="stop them all"):
        start_anew(teller(), rig.log, [tmp_path], make="inputs")
    assert rig.call("account/total", key="k1") == 0


def test_a_topic_that_goes_while_the_app_runs_stops_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = rig.start(teller())
    topic = rig.log.topic
    monkeypatch.setattr(rig.log, "topic", lambda name: None if name == "teller.state" else topic(name))
    for _ in range(2):
        worker._housekeeping._look_at_internal()
    said = str(rig.until_failed(worker))
    assert "topic teller.state was deleted while the app runs" in said
    rig.workers.pop().stop()


@pytest.mark.parametrize("name", ["teller.commands", "teller.journal", "teller.state"])
def test_a_takeover_that_meets_it_first_says_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A broker may still name the topic when its partitions are gone already."""
    worker = rig.start(teller())
    topic, offsets, gone = rig.log.topic, rig.log.offsets, set[str]()

    def asked(partition: Partition) -> tuple[int, int]:
        if partition.topic == name:
            gone.add(name)
            raise LogError(f"reading the offsets of {partition.topic!r}: there is no such partition", retriable=False)
        return offsets(partition)

    monkeypatch.setattr(rig.log, "topic", lambda asked_for: None if asked_for in gone else topic(asked_for))
    monkeypatch.setattr(rig.log, "offsets", asked)
    assert worker._engine is not None
    worker._engine.flags.start_over = "the shards move"
    rig._wake()
    said = str(rig.until_failed(worker))
    assert f"topic {name} was deleted while the app runs" in said and "--start-anew" in said
    rig.workers.pop().stop()


def test_a_topic_that_a_broker_does_not_know_for_a_moment_stops_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = rig.start(teller())
    topic = rig.log.topic
    monkeypatch.setattr(rig.log, "topic", lambda name: None if name == "teller.state" else topic(name))
    worker._housekeeping._look_at_internal()
    monkeypatch.setattr(rig.log, "topic", topic)
    worker._housekeeping._look_at_internal()
    assert rig.call("account/total", key="k1") == 0


def test_what_was_written_before_ids_were_noted_still_counts(rig: Rig, tmp_path: Path) -> None:
    """A journal of an older version names no ids; its store does."""
    lived(rig)
    for number in range(2):
        raw = rig.changelog("teller.journal", number)[POSITIONS_KEY]
        found: Positions = POSITIONS.decode(raw)
        old = replace_ids(found)
        rig.publish("teller.journal", (POSITIONS_KEY, POSITIONS.encode(old)), partition=number)
        store = RocksStore(tmp_path / "store" / "teller" / str(number))
        at: StorePosition = STORE_POSITION.decode(store.get(STORE_POSITION_KEY) or b"")
        assert at.journal_id and at.state_id
        store.close()
    rig.start(teller())
    assert rig.call("account/total", key="k1") == RECORDS // 4
    rig.stop()
    assert POSITIONS.decode(rig.changelog("teller.journal", 0)[POSITIONS_KEY]).state_id
    assert rig.log.offsets(Partition("teller.state", 0))[1]


def replace_ids(found: Positions) -> Positions:
    inputs = list(found.inputs)
    for place in inputs:
        if place.topic == "teller.commands":
            place.topic_id = ""
    return Positions(found.shards, found.incarnation, found.epoch, found.sequence, found.time_ms, inputs)
