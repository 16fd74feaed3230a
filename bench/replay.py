"""How fast a range is delivered again, alone and beside live records, and what that costs these: `python -m bench.replay`.

One worker with four shards, an object that counts and publishes, on the embedded log, or on Kafka with `--bootstrap-servers`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.verification import read
from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.formats import REPLAY, Command, Replay
from odradek_runtime.log.port import Log, Output, Partition
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.replay_report import ReplayReport, reports
from odradek_runtime.worker.worker import Worker

RECORDS = 200_000
KEYS = 5_000
PARTITIONS = 4
BATCH = 5_000


def make_app(name: str) -> App:
    """Counts each key's records, and publishes the count."""
    app = App(name, shards=PARTITIONS)
    entries, counts = app.topic(f"{name}-in", value=int), app.topic(f"{name}-out", value=int)
    account = app.object("account")

    @account.on(entries)
    async def entered(ctx: ObjectContext, value: int) -> None:
        count = ctx.get("count", int, 0) + 1
        ctx.set("count", count)
        ctx.publish(counts, count, key=ctx.key)

    return app


class Bench:
    """One worker, and what is asked of it."""

    def __init__(self, log: Log, settings: Settings, name: str) -> None:
        self._log = log
        self._settings = settings
        self._name = name
        self._batches = 0
        self._worker = Worker(make_app(name), log, settings)

    def start(self) -> None:
        """The worker."""
        self._worker = Worker(make_app(self._name), self._log, self._settings)
        self._worker.start()

    def stop(self) -> None:
        """The worker: what comes meanwhile waits."""
        self._worker.stop()

    def publish(self) -> None:
        """As many records again."""
        publisher = self._log.publisher(f"{self._name}-fill-{self._batches}")
        for number, start in enumerate(range(0, RECORDS, BATCH), 1):
            numbers = range(start, start + BATCH)
            publisher.publish([Output(f"{self._name}-in", None, b"k%05d" % (n % KEYS), b"%d" % n) for n in numbers], number)
        publisher.close()
        self._batches += 1

    def replay(self) -> str:
        """The first RECORDS records once more, of whatever partition."""
        id_ = f"replay-{os.urandom(4).hex()}"
        orders: list[tuple[int, Command]] = []
        for at, stop in self._ends.items():
            part = Replay(id_, at.topic, at.partition, 0, 0, stop, parts=PARTITIONS)
            orders.append((at.partition, Command(kind="replay", id=id_, payload=REPLAY.encode(part))))
        give(self._log, self._name, id_, orders)
        return id_

    def mark(self) -> None:
        """What is there now is what is replayed."""
        self._ends = self._bounds()

    def _bounds(self) -> dict[Partition, int]:
        """Where each input ends now."""
        partitions = [Partition(f"{self._name}-in", number) for number in range(PARTITIONS)]
        return {partition: self._log.offsets(partition)[1] for partition in partitions}

    def report(self, id_: str) -> ReplayReport | None:
        rows = [row for of_shard in self._worker.replay_rows().values() for row in of_shard.items()]
        return next((each for each in reports(rows) if each.id == id_), None)

    def has_ended(self, id_: str) -> bool:
        report = self.report(id_)
        return report is not None and report.status == "done"

    def has_read(self) -> bool:
        """Whether the live records are done with."""
        return read(self._log, self._worker, self._bounds())


def until(condition: Callable[[], bool]) -> float:
    """The seconds that it took."""
    began_s = time.monotonic()
    while not condition():
        time.sleep(0.05)
    return time.monotonic() - began_s


def run(bench: Bench) -> None:
    """The figures, a line each."""
    bench.start()
    took_s = until(bench.has_read)
    print(f"live, from the start of the worker: {RECORDS / took_s:,.0f} records/s")
    for _ in range(3):
        id_ = bench.replay()
        took_s = until(partial(bench.has_ended, id_))
        print(f"replayed alone: {RECORDS / took_s:,.0f} records/s")
        bench.stop()
        bench.publish()
        id_ = bench.replay()
        bench.start()
        began_s = time.monotonic()
        replay_s = live_s = 0.0
        while not (replay_s and live_s):
            replay_s = replay_s or (time.monotonic() - began_s if bench.has_ended(id_) else 0.0)
            live_s = live_s or (time.monotonic() - began_s if bench.has_read() else 0.0)
            time.sleep(0.05)
        both = f"{RECORDS / replay_s:,.0f} replayed and {RECORDS / live_s:,.0f} live records/s"
        print(f"at once, with as many that wait: {both}")


def main() -> None:
    """Fill, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", default="", help="Kafka's addresses. Without: the embedded log")
    servers = parser.parse_args().bootstrap_servers
    name = f"bench-replay-{os.urandom(3).hex()}"
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(bootstrap_servers=servers, data_dir=Path(folder))
        log = open_log(settings)
        for topic in (f"{name}-in", f"{name}-out"):
            log.create_topic(topic, PARTITIONS, {})
        bench = Bench(log, settings, name)
        bench.publish()
        bench.mark()
        run(bench)
        bench.stop()
        log.close()


if __name__ == "__main__":
    main()
