"""Verifications and rebuilds on Kafka: under load, with a planted difference, and of a shard that moves to another worker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from odradek_runtime.core.records.formats import StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output
from odradek_runtime.routing import shard_of
from odradek_runtime.store.store import Store
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.upkeep.jobs import Findings, Job
from odradek_runtime.worker.worker import Worker
from tests.kafka.raw import eventually
from tests.kafka.test_damaged_stores import SHARDS, Run, started, sums
from tests.repeating import repeating


def job(worker: Worker, kind: str, number: int) -> Job:
    assert worker.upkeep is not None
    return worker.upkeep.verify(number, "ada@desk") if kind == "verify" else worker.upkeep.rebuild(number, "ada@desk")


def done(worker: Worker, kind: str, number: int) -> Job:
    given = job(worker, kind, number)
    eventually(lambda: given.over, 60.0)
    assert given.status == "ended", given.reason
    return given


def found(worker: Worker, number: int) -> Findings:
    findings = done(worker, "verify", number).findings
    assert findings is not None
    return findings


def shards(worker: Worker) -> dict[int, Shard]:
    assert worker._engine is not None
    return worker._engine.machine.shards


@contextmanager
def load(log: KafkaLog, name: str, published: list[int]) -> Iterator[None]:
    publisher = log.publisher(f"{name}-load")

    def feed() -> None:
        publisher.publish([Output(f"{name}-in", None, b"k%05d" % n, b"1") for n in range(400)], len(published) + 1)
        published.append(400)

    with repeating(feed, 0.05):
        yield
    publisher.close()


def test_under_load_a_sound_store_is_sound_and_a_rebuilt_one_exact(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path
) -> None:
    run, app = Run(log, topic_prefix), sums(topic_prefix)
    worker = started(app, log, kafka, tmp_path)
    run.round()
    published: list[int] = []
    with load(log, topic_prefix, published):
        for number in range(SHARDS):
            assert found(worker, number).differences == 0
        number = shard_of(b"k03999", SHARDS)
        store = shards(worker)[number].store
        eventually(lambda: store.get(b"saccount/k03999/total") is not None)
        store.write([(b"saccount/k03999/total", b"999"), (b"saccount/nobody/total", b"1")])
        planted = found(worker, number)
        assert [each.key for each in planted.shown] == ["account/k03999/total", "account/nobody/total"]
        assert found(worker, 1 - number).differences == 0
        assert done(worker, "rebuild", number).total_records > 0
        assert found(worker, number).differences == 0
    # Each key of the load has had one from the first round, and one for each batch.
    totals = sorted([*range(2, len(published) + 2)] * 400 + [1] * 4_000)
    eventually(lambda: len(run.totals()) >= len(totals), 60.0)
    assert run.totals() == totals
    worker.stop()
    assert worker.failed is None
    assert list((tmp_path / "store" / topic_prefix).glob("*.bench")) == []


def test_a_shard_that_moves_to_another_worker_ends_it(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, app = Run(log, topic_prefix), sums(topic_prefix)
    first = started(app, log, kafka, tmp_path / "first")
    run.round()
    going, copy = threading.Event(), Takeover.copy

    def slow(self: Takeover, number: int, into: Store, upto: StorePosition, progress: Progress) -> dict[str, int]:
        assert going.wait(60)
        return copy(self, number, into, upto, progress)

    monkeypatch.setattr(Takeover, "copy", slow)
    given = job(first, "verify", 0)
    waiting = job(first, "verify", 1)
    eventually(lambda: given.status == "restoring", 60.0)
    second = started(app, log, kafka, tmp_path / "second")
    eventually(lambda: second.ready and len(second.snapshot().get("shards_owned", ())) == 1, 60.0)
    eventually(lambda: len(first.snapshot().get("shards_owned", ())) == 1, 60.0)
    going.set()
    eventually(lambda: given.over and waiting.over, 60.0)
    moved, stayed = (given, waiting) if second.owns(0) else (waiting, given)
    assert (moved.status, moved.reason) == ("failed", "the shard has moved to another worker meanwhile: verify it again")
    assert stayed.status == "ended", stayed.reason
    assert found(second, moved.shard).differences == 0
    run.round()
    first.stop()
    second.stop()
    assert list(tmp_path.glob("*/store/*/*.bench")) == []
