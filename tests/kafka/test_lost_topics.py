"""Internal topics that are deleted on a real Kafka: before a start, and under a running worker. Nothing is lost or doubled."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from odradek import App, ObjectContext, State
from odradek_runtime import internal
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.log_kafka import KafkaLog
from odradek_runtime.settings import Settings
from odradek_runtime.start_anew import start_anew
from odradek_runtime.startup import StartupError
from odradek_runtime.worker import Worker
from tests.contract.station import values
from tests.kafka.raw import delete_topic, eventually

RECORDS = 40


class Life:
    """One app on the shared broker, and its runs one after another."""

    def __init__(self, servers: str, log: KafkaLog, prefix: str, folder: Path) -> None:
        self.servers, self.log, self.prefix, self.folder = servers, log, prefix, folder
        self.entries, self.counts = f"{prefix}-entries", f"{prefix}-counts"
        log.create_topic(self.entries, 2, {})
        log.create_topic(self.counts, 1, {})
        self._runs: list[tuple[Worker, KafkaLog]] = []

    def app(self) -> App:
        app = App(self.prefix)
        entries, counts = app.topic(self.entries, value=int), app.topic(self.counts, value=int)
        count, account = State("count", int, default=0), app.object("account")

        @account.on(entries)
        async def entered(ctx: ObjectContext, value: int) -> None:
            ctx.set(count, ctx.get(count) + 1)
            ctx.publish(counts, ctx.get(count), key=ctx.key)

        return app

    def begin(self) -> Worker:
        log = KafkaLog(self.servers, transaction_timeout_s=4.0)  # a commit to a topic that is gone is waited for
        folder = self.folder / str(len(self._runs))
        worker = Worker(self.app(), log, Settings(bootstrap_servers=self.servers, data_dir=folder, topics_watch_s=0.2))
        self._runs.append((worker, log))
        worker.start()
        return worker

    def feed(self, start: int = 0) -> None:
        publisher = self.log.publisher(f"{self.prefix}-feed-{start}")
        numbers = range(start, start + RECORDS)
        publisher.publish([Output(self.entries, None, b"k%d" % (n % 5), b"%d" % n) for n in numbers], RECORDS)
        publisher.close()

    def stop(self) -> None:
        while self._runs:
            worker, log = self._runs.pop()
            worker.stop()
            log.close()

    def counted(self) -> int:
        return len(values(self.log, Partition(self.counts, 0)))

    def run_once(self) -> None:
        self.begin()
        self.feed()
        eventually(lambda: self.counted() == RECORDS)
        self.stop()


@pytest.fixture
def life(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> Iterator[Life]:
    made = Life(kafka, log, topic_prefix, tmp_path)
    yield made
    made.stop()


def test_what_was_deleted_is_not_made_again(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "LOOK_AGAIN_S", 0.05)
    life.run_once()
    for name in internal.NAMES:
        gone = f"{life.prefix}.{name}"
        delete_topic(life.servers, gone)
        eventually(lambda gone=gone: life.log.topic(gone) is None)
        with pytest.raises(StartupError) as refused:
            life.begin()
        assert gone in str(refused.value) and "--start-anew" in str(refused.value)
        assert life.log.topic(gone) is None
    assert life.counted() == RECORDS

    assert start_anew(life.app(), life.log, [life.folder / "0"], make="nothing") == 2
    life.begin()
    eventually(lambda: life.counted() == 2 * RECORDS)


@pytest.mark.parametrize("name", internal.NAMES)
def test_a_topic_deleted_under_a_running_worker_stops_it(life: Life, name: str) -> None:
    worker = life.begin()
    life.feed()
    eventually(lambda: life.counted() == RECORDS)

    delete_topic(life.servers, f"{life.prefix}.{name}")
    life.feed(RECORDS)

    eventually(lambda: worker.failed is not None)
    assert isinstance(worker.failed, LogError)
    assert not worker.failed.retriable
    assert f"{life.prefix}.{name}" in str(worker.failed) and "--start-anew" in str(worker.failed)
    life.stop()
    assert life.log.topic(f"{life.prefix}.{name}") is None
    assert life.log.offsets(Partition(f"{life.prefix}.dead-letters", 0))[1] == 0, "nobody's record is to blame"
    with pytest.raises(StartupError):
        life.begin()


def test_three_workers_that_start_at_once_for_the_first_time(life: Life) -> None:
    """Each may see what another has just made, and written to."""
    starts = [Thread(target=life.begin) for _ in range(3)]
    life.feed()
    for start in starts:
        start.start()
    for start in starts:
        start.join()

    eventually(lambda: life.counted() == RECORDS)
    assert [worker.failed for worker, _ in life._runs] == [None] * 3
