"""Damaged stores on Kafka: a worker rebuilds what it can, and one whose disk takes no stores leaves its shards to others."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import cast

import msgspec
import pytest
from starlette.requests import Request

from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.http.admin.exposition import Exposition
from odradek_runtime.http.admin.routes import AdminRoutes
from odradek_runtime.http.admin.siblings import Siblings
from odradek_runtime.http.ingress.door import Door
from odradek_runtime.http.ingress.errors import HttpError
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.worker import withdrawal
from odradek_runtime.worker.restore import ownership
from odradek_runtime.worker.worker import Worker
from tests.contract.station import values
from tests.engine.damage import flip, tables
from tests.kafka.raw import eventually

KEYS = 4_000
SHARDS = 2


def sums(name: str) -> App:
    app = App(name, shards=SHARDS)
    out = app.topic(f"{name}-out", value=int)
    account = app.object("account")

    @account.on(app.topic(f"{name}-in", value=int))
    async def book(ctx: ObjectContext, n: int) -> None:
        total = ctx.get("total", int, 0) + n
        ctx.set("total", total)
        ctx.publish(out, total, key=ctx.key)

    return app


class Run:
    """An app's topics, and one record for each key at a time."""

    def __init__(self, log: KafkaLog, name: str) -> None:
        self.log, self.name = log, name
        for topic in (f"{name}-in", f"{name}-out"):
            log.create_topic(topic, SHARDS, {})
        self._rounds = 0

    def round(self) -> None:
        """A one for each key; waits until it is added everywhere, once."""
        self._rounds += 1
        publisher = self.log.publisher(f"{self.name}-feed")
        records = [Output(f"{self.name}-in", None, b"k%05d" % n, b"1") for n in range(KEYS)]
        publisher.publish(records, self._rounds)
        publisher.close()
        eventually(lambda: len(self.totals()) >= KEYS * self._rounds, 60.0)
        assert self.totals() == sorted(n for n in range(1, self._rounds + 1) for _ in range(KEYS))
        assert self.of(f"{self.name}.dead-letters") == []

    def totals(self) -> list[int]:
        return sorted(msgspec.json.decode(value) for value in self.of(f"{self.name}-out"))

    def of(self, topic: str) -> list[bytes]:
        info = self.log.topic(topic)
        return [] if info is None else [v for n in range(info.partitions) for v in values(self.log, Partition(topic, n)) if v]


def flip_everywhere(directory: Path, name: str) -> None:
    for number in range(SHARDS):
        for table in tables(directory / "store" / name / str(number)):
            flip(table, *(place / 10 for place in range(1, 9)))


def started(app: App, log: KafkaLog, servers: str, directory: Path) -> Worker:
    worker = Worker(app, log, Settings(bootstrap_servers=servers, data_dir=directory))
    worker.start()
    return worker


def test_stores_damaged_between_and_under_runs_cost_nothing(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> None:
    """Flipped blocks at rest, flipped blocks and a folder that goes while it is in use: every total is right, once."""
    run, app = Run(log, topic_prefix), sums(topic_prefix)
    worker = started(app, log, kafka, tmp_path)
    run.round()
    worker.stop()
    flip_everywhere(tmp_path, topic_prefix)
    worker = started(app, log, kafka, tmp_path)
    run.round()
    assert worker.metrics.stores_rebuilt == SHARDS
    for shard in worker._engine.machine.shards.values() if worker._engine is not None else ():
        shard.store.flush()
        shard.recent.clear()
    flip_everywhere(tmp_path, topic_prefix)
    run.round()
    shutil.rmtree(tmp_path / "store" / topic_prefix / "0")
    run.round()
    worker._housekeeping._flushed_s = -1e9
    worker._housekeeping.round()
    run.round()
    eventually(lambda: worker.metrics.stores_rebuilt > SHARDS)
    worker.stop()
    assert worker.failed is None
    assert len(list((tmp_path / "store" / topic_prefix).glob("*.damaged-*"))) >= SHARDS


def test_a_worker_whose_disk_takes_no_stores_leaves_its_shards_to_others(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so in /ready, stays away though the shards are free, and ends once its disk is mended, to be started anew."""
    monkeypatch.setattr(ownership, "TRIES", 3)
    monkeypatch.setattr(withdrawal, "AWAY_S", 0.2)
    run, app = Run(log, topic_prefix), sums(topic_prefix)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "store").write_text("a file where the folder of all stores should be")

    alone = started(app, log, kafka, broken)
    eventually(lambda: bool(alone.snapshot().get("withdrawn")), 60.0)
    eventually(lambda: not alone.snapshot().get("shards_owned"), 60.0)
    other = started(app, log, kafka, tmp_path / "sound")
    eventually(lambda: other.ready and len(other.snapshot().get("shards_owned", ())) == SHARDS, 60.0)
    run.round()
    assert not alone.ready
    assert alone.failed is None
    assert not any(alone.owns(number) for number in range(SHARDS))
    routes = AdminRoutes(alone, Exposition(alone, lambda: 0, Door()), cast("Siblings", None))
    with pytest.raises(HttpError) as raised:
        asyncio.run(routes.ready_alone(cast("Request", None)))
    assert raised.value.code == 503
    assert str(broken / "store") in str(raised.value)

    (broken / "store").unlink()
    eventually(lambda: alone.failed is not None, 60.0)
    assert "takes stores again" in str(alone.failed)
    alone.stop()
    other.stop()
    assert other.failed is None
    assert not [thread for thread in threading.enumerate() if thread.name == "odradek-withdrawal"]
