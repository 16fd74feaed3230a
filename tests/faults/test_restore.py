"""A restart with the store replays only the delta; without the store everything is rebuilt: the same state, byte for byte."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import STORE_POSITION, StorePosition
from odradek_runtime.log.port import Log, Member, Message, Partition, TopicInfo
from odradek_runtime.store.store import RocksStore
from odradek_runtime.store.store_folder import StoreFolder
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names
from tests.faults.workers import Gauge, Place, Worker, count, until

pytestmark = pytest.mark.faults

FIRST, SECOND, ALL = 15_000, 18_000, 20_000


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_the_delta_and_the_whole_give_the_same_bytes(where: str, place: MakePlace, year: list[Departure]) -> None:
    here = place(where, {"ODRADEK_EPOCH_EVENTS": "100"})
    names, rows = Names.of(here.app), year[:ALL]
    worker = here.worker("w", *(["--session-timeout", "1"] if where == "kafka" else []))
    _process(here, worker, names, rows[:FIRST])
    worker.stop()  # flushes the stores: what comes after is the delta
    _process(here, worker, names, rows[:SECOND])
    worker.kill()

    log = here.open()
    now_ms = time.time() * 1000  # one moment for both: a store's position says when it was brought up to date
    for number in range(PARTITIONS):
        kept = here.folder / "kept"
        shutil.copytree(worker.data_dir / "store" / here.app / str(number), kept / "store" / here.app / str(number))
        before = _position(kept / "store" / here.app / str(number))
        delta, by_delta = _restored(log, here.app, number, kept, now_ms)
        whole, by_whole = _restored(log, here.app, number, here.folder / "empty", now_ms)
        here.note(f"shard {number}: {delta.records} records on top of the store, {whole.records} without it")
        assert min(delta.starts[f"{here.app}.state"]) == before.state_offset
        assert min(delta.starts[f"{here.app}.journal"]) >= before.journal_offset
        assert 0 < delta.records < whole.records / 2
        assert by_delta == by_whole
    log.close()

    # And the worker itself: with its store, then without.
    _process(here, worker, names, rows[: SECOND + 1_000])
    worker.kill()
    shutil.rmtree(worker.data_dir / "store")
    _process(here, worker, names, rows)
    settled(here, [worker], names, rows)


def _process(here: Place, worker: Worker, names: Names, rows: Sequence[Departure]) -> None:
    """Publish what is new of the rows, start the worker, wait until it has processed them."""
    log = here.open()
    feed.create(log, names, PARTITIONS)
    feed.publish(log, names.input, rows)
    log.close()
    worker.start()
    gauge = Gauge(here, [names.output, f"{names.app}.dead-letters"])
    until(lambda: gauge.read() >= len(rows), f"{len(rows)} outcomes", every_s=0.1)
    gauge.close()

    def complete() -> bool:
        log = here.beside()
        try:
            return count(log, names.output) + count(log, f"{names.app}.dead-letters") >= len(rows)
        finally:
            log.close()

    until(complete, f"{len(rows)} outcomes committed", every_s=0.2)


@dataclass
class CountingLog:
    """Notes what a take-over reads of the changelogs."""

    log: Log
    records: int = 0
    starts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        self.starts.setdefault(partition.topic, []).append(start)
        for batch in self.log.scan(partition, start, stop, sparing=sparing):
            self.records += len(batch)
            yield batch

    def topic(self, name: str) -> TopicInfo | None:
        return self.log.topic(name)

    def offsets(self, partition: Partition) -> tuple[int, int]:
        return self.log.offsets(partition)

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return self.log.committed_offsets(app, partitions)


class Settled:
    """Stands for a member: the dead owner of these tests has long been settled."""

    def settle(self, _shard: int) -> int | None:
        return None


def _restored(log: Log, app: str, number: int, directory: Path, now_ms: float) -> tuple[CountingLog, dict[bytes, bytes]]:
    """What a take-over read, and every byte in the store after it."""
    counting = CountingLog(log)
    stores = StoreFolder(directory / "store" / app)
    takeover = Takeover(app, PARTITIONS, cast("Log", counting), cast("Member", Settled()), [], stores)
    shard = takeover.run(number, 1, lambda: now_ms, Progress())
    content = dict(shard.store.scan(b"", b"\xff" * 8))
    shard.store.close()
    at = STORE_POSITION.decode(content[keys.STORE_POSITION])
    assert at.state_offset == log.offsets(Partition(f"{app}.state", number))[1]
    return counting, content


def _position(directory: Path) -> StorePosition:
    store = RocksStore(directory)
    raw = store.get(keys.STORE_POSITION)
    store.close()
    assert raw is not None
    return STORE_POSITION.decode(raw)
