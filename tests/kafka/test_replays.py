"""Replays on a real Kafka over ranges with holes: compacted, deleted, aborted. What is there comes once, what is not is counted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from odradek import App, ObjectContext
from odradek_runtime.cli.preview import preview
from odradek_runtime.core.records.formats import REPLAY, Command, Replay
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.replay_report import ReplayReport, reports
from odradek_runtime.worker.worker import Worker
from tests.conftest import ClusterFactory
from tests.contract.station import content, values
from tests.kafka.raw import eventually, transactional
from tests.kafka.running import publish, running

KEYS = 10
COMPACTED = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "-1",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
}


class Field(NamedTuple):
    """A topic of two partitions and the app that reads it. Notes: (partition, offset, value, what delivered it)."""

    servers: str
    log: KafkaLog
    app: str
    entries: str
    notes: str
    folder: Path

    def partitions(self) -> list[Partition]:
        return [Partition(self.entries, number) for number in (0, 1)]

    def made(self) -> App:
        app = App(self.app, shards=2)
        entries, notes = app.topic(self.entries, value=int), app.topic(self.notes, value=list[Any])
        keeping = app.object("keeping")

        @keeping.on(entries)
        async def kept(ctx: ObjectContext, value: int) -> None:
            ctx.publish(notes, [ctx.record.partition, ctx.record.offset, value, ctx.record.replay], key="all")

        assert callable(kept)
        return app

    def noted(self, replay: str | None) -> list[tuple[int, int, int]]:
        """What this replay has delivered; None: what came live."""
        found = [msgspec.json.decode(raw or b"[]") for raw in values(self.log, Partition(self.notes, 0))]
        return [(partition, offset, value) for partition, offset, value, by in found if by == replay]

    def there(self) -> list[tuple[int, int, int]]:
        """What a reader of committed records finds now."""
        found = [message for partition in self.partitions() for message in content(self.log, partition)]
        return [(message.partition(), message.offset(), int(message.value() or b"")) for message in found]

    def order(self, id_: str, ends: list[int], rate: float = 0.0) -> None:
        """Both partitions from offset 0 on."""
        parts = [Replay(id_, self.entries, n, 0, 0, end, rate=rate, parts=2) for n, end in enumerate(ends)]
        orders = [(part.partition, Command("replay", id=id_, payload=REPLAY.encode(part))) for part in parts]
        assert give(self.log, self.app, id_, orders)

    def ends(self) -> list[int]:
        return [self.log.offsets(partition)[1] for partition in self.partitions()]


def report(worker: Worker) -> ReplayReport | None:
    found = reports(row for rows in worker.replay_rows().values() for row in rows.items())
    return found[0] if found else None


def finished(worker: Worker) -> ReplayReport:
    def done() -> bool:
        found = report(worker)
        return found is not None and found.status not in ("running", "ending")

    eventually(done)
    found = report(worker)
    assert found is not None and found.status == "done"
    assert found.offsets[0] == found.offsets[1], "the progress ends at 100 %"
    return found


def whole(field: Field, found: ReplayReport, ends: list[int], gone: list[int]) -> None:
    """What was delivered is what there is, once each; all other offsets are deleted or empty, as the preview says."""
    there = field.there()
    assert Counter(field.noted(found.id)) == Counter(there)
    assert (found.records, found.started, found.ended_well) == (len(there), len(there), len(there))
    empty = [end - deleted - sum(n == at for n, *_ in there) for at, (end, deleted) in enumerate(zip(ends, gone, strict=True))]
    assert [(part.gone, part.empty) for part in found.parts] == list(zip(gone, empty, strict=True))
    shown = preview(field.log, {p: (0, ends[p.partition]) for p in field.partitions()}, [], f"{field.app}.dead-letters")
    assert (shown.records, shown.empty, shown.letters) == (len(there), sum(empty), 0)
    assert shown.gone == {at: deleted for at, deleted in enumerate(gone) if deleted}


@pytest.fixture
def make(topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Field]]:
    logs: list[KafkaLog] = []

    def made(servers: str, **config: str) -> Field:
        logs.append(KafkaLog(servers))
        app = f"{topic_prefix}-keeper"
        field = Field(servers, logs[-1], app, f"{app}-entries", f"{app}-notes", tmp_path)
        field.log.create_topic(field.entries, 2, config)
        field.log.create_topic(field.notes, 1, {})
        return field

    yield made
    for log in logs:
        log.close()


def test_a_range_that_the_broker_has_compacted_and_in_part_deleted(
    make: Callable[..., Field], kafka_cluster: ClusterFactory
) -> None:
    """Three hundred records of ten keys in each partition, of which compaction leaves ten; and ten of a key of its own behind."""
    cluster = kafka_cluster(properties={"log.cleaner.backoff.ms": 200})
    field = make(cluster.bootstrap_servers, **COMPACTED)
    for start in range(0, 300, 100):
        for number in (0, 1):
            records = [Output(field.entries, number, b"k%d" % (n % KEYS), b"%d" % n) for n in range(start, start + 100)]
            publish(field.log, f"{field.app}-{start}-{number}", *records)
    with running(field.made(), field.log, field.servers, field.folder) as worker:
        turns = itertools.count()

        def compacted() -> bool:
            """The last segment is never compacted: one record more begins another, once it is old enough."""
            at = next(turns)
            for number in (0, 1):
                publish(field.log, f"{field.app}-last-{at}-{number}", Output(field.entries, number, b"last", b"1000"))
            return all(len(content(field.log, partition)) < 100 for partition in field.partitions())

        eventually(compacted)
        ends = field.ends()
        first = content(field.log, Partition(field.entries, 1))[0].offset()
        field.log.trim(Partition(field.entries, 1), first + 3)
        before = steady(field)
        field.order("holes", ends)
        found = finished(worker)
        assert field.there() == before, "it was compacted further while it was read: the counts below would mean nothing"
    whole(field, found, ends, [0, first + 3])
    assert found.parts[0].empty > 250


def steady(field: Field) -> list[tuple[int, int, int]]:
    """What is there once compaction has done all that it will."""
    seen: list[list[tuple[int, int, int]]] = [field.there()]

    def same() -> bool:
        seen.append(field.there())
        return len(seen) > 60 and all(each == seen[-1] for each in seen[-60:])

    eventually(same)
    return seen[-1]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_range_whose_beginning_is_deleted(make: Callable[..., Field], kafka: str, when: str) -> None:
    field = make(kafka)
    for number in (0, 1):
        records = [Output(field.entries, number, b"k%d" % (n % KEYS), b"%d" % n) for n in range(60)]
        publish(field.log, f"{field.app}-{number}", *records)
    ends = field.ends()
    cut = Partition(field.entries, 0)
    with running(field.made(), field.log, field.servers, field.folder) as worker:
        eventually(lambda: len(field.noted(None)) == 120)
        if when == "before":
            field.log.trim(cut, 20)
        field.order("late", ends, rate=20.0)
        eventually(lambda: len(field.noted("late")) > 6)
    seen = {offset for partition, offset, _ in field.noted("late") if partition == 0}
    if when == "meanwhile":
        field.log.trim(cut, 40)
    with running(field.made(), field.log, field.servers, field.folder) as worker:
        found = finished(worker)
    if when == "before":
        whole(field, found, ends, [20, 0])
        return
    delivered = seen | set(range(40, 60))
    assert sorted(offset for partition, offset, _ in field.noted("late") if partition == 0) == sorted(delivered)
    assert sorted(offset for partition, offset, _ in field.noted("late") if partition == 1) == list(range(60))
    marker = 1
    assert [(part.records, part.gone, part.empty) for part in found.parts] == [
        (len(delivered), 40 - len(seen), marker), (60, 0, marker),
    ]  # fmt: skip


def test_aborted_transactions_amid_the_range_are_not_delivered(make: Callable[..., Field], kafka: str) -> None:
    """Three transactions of every four are aborted, the last two among them: the range ends in what nobody may see."""
    field = make(kafka)
    producer = transactional(kafka, f"{field.app}-feed")
    for turn in range(9):
        producer.begin_transaction()
        for n in range(20):
            producer.produce(field.entries, b"%d" % (turn * 20 + n), b"k%d" % (n % KEYS), n % 2)
        producer.flush(10.0)  # what has not been sent is not written by an abort
        (producer.commit_transaction if turn % 4 == 2 else producer.abort_transaction)(10.0)
    ends = [99, 99]  # ten records and a mark for each transaction; the last marks are written when their transaction has ended
    eventually(lambda: field.ends() == ends)
    with running(field.made(), field.log, field.servers, field.folder) as worker:
        eventually(lambda: len(field.noted(None)) == 40)
        field.order("again", ends)
        found = finished(worker)
        assert sorted(value for *_, value in field.noted("again")) == [*range(40, 60), *range(120, 140)]
        whole(field, found, ends, [0, 0])
        assert [part.empty for part in found.parts] == [79, 79]
