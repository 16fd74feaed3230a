"""How fast a store is verified and rebuilt, and what that costs whoever calls a handler meanwhile: `python -m bench.verification`.

One shard with half a million changelog records, state and journals, on the embedded log, or on Kafka with `--bootstrap-servers`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from odradek import App, Context, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.log.port import Log, Output, Partition
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.routing import fresh_id
from odradek_runtime.worker.upkeep.jobs import Job
from odradek_runtime.worker.upkeep.upkeep import Upkeep
from odradek_runtime.worker.worker import Worker

ACCOUNTS, NAPS = 260_000, 80_000
"""Each account is a record of state, each nap three of the journal."""
BATCH = 5_000
CALL_EVERY_S = 0.005
ALONE_S = 6.0


def make_app(name: str) -> App:
    """Accounts that add up, and naps that outlast the run."""
    app = App(name, shards=1)
    account = app.object("account")

    @account.on(app.topic(f"{name}-in", value=int))
    async def booked(ctx: ObjectContext, n: int) -> None:
        ctx.set("total", ctx.get("total", int, 0) + n)

    @app.on(app.topic(f"{name}-naps", value=int))
    async def nap(ctx: Context, n: int) -> None:
        await ctx.sleep(timedelta(days=3))

    @account.handler
    async def bump(ctx: ObjectContext, n: int) -> int:
        total = ctx.get("total", int, 0) + n
        ctx.set("total", total)
        return total

    return app


def fill(log: Log, name: str) -> dict[Partition, int]:
    """Everything that the app is to read, and where each input then ends."""
    publisher = log.publisher(f"{name}-fill")
    position = 0
    for topic, count, key in ((f"{name}-in", ACCOUNTS, True), (f"{name}-naps", NAPS, False)):
        log.create_topic(topic, 1, {})
        for start in range(0, count, BATCH):
            position += 1
            numbers = range(start, min(count, start + BATCH))
            publisher.publish([Output(topic, 0, b"k%06d" % n if key else None, b"%d" % n) for n in numbers], position)
    publisher.close()
    return {Partition(topic, 0): log.offsets(Partition(topic, 0))[1] for topic in (f"{name}-in", f"{name}-naps")}


def read(log: Log, worker: Worker, ends: dict[Partition, int]) -> bool:
    """Whether the app has taken all of it: on Kafka the last offsets are markers, which nobody reads past at once."""
    at = worker.positions()
    return all(not any(log.scan(p, at[p], end)) if p in at and at[p] < end else p in at for p, end in ends.items())


class Calls(NamedTuple):
    """How long calls took that were made one after another."""

    calls: int
    median_ms: float
    p99_ms: float
    longest_ms: float

    def __str__(self) -> str:
        return f"{self.calls} calls: {self.median_ms:.1f} ms, p99 {self.p99_ms:.1f}, longest {self.longest_ms:.1f}"

    def beside(self, alone: Calls) -> str:
        """As multiples of what they took alone in the same run."""
        return f"{self} = {self.median_ms / alone.median_ms:.2f} and {self.p99_ms / alone.p99_ms:.2f} times as long as alone"


def call_until(worker: Worker, over: Callable[[], bool]) -> Calls:
    """Calls one after another until it is over."""
    taken_ms: list[float] = []
    while not over():
        key, answered = b"k%06d" % (len(taken_ms) % 1000), threading.Event()

        def answer(_: Reply, answered: threading.Event = answered) -> None:
            answered.set()

        began_s = time.perf_counter()
        worker.ask(Invoke(fresh_id(key, os.urandom(12)), "account/bump", key, b"1", {}, True, False, 0), answer)
        answered.wait(30)
        taken_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(CALL_EVERY_S)
    taken_ms.sort()
    count = len(taken_ms)
    return Calls(count, taken_ms[count // 2], taken_ms[count * 99 // 100], taken_ms[-1])


def is_over(job: Job) -> bool:
    return job.over


def wait(job: Job) -> None:
    while not job.over:
        time.sleep(0.05)


def call_for(worker: Worker, seconds: float) -> Calls:
    """Calls beside which nothing else is done."""
    until_s = time.monotonic() + seconds
    return call_until(worker, lambda: time.monotonic() > until_s)


def run(upkeep: Upkeep, worker: Worker) -> None:
    """The figures, a line each."""
    for called in (False, True, False, True):
        alone = call_for(worker, ALONE_S) if called else None  # before each: others may be at work on this machine
        job = upkeep.verify(0, "bench")
        if alone is None:
            wait(job)
            said = "no calls"
        else:
            said = f"alone {alone}; meanwhile {call_until(worker, partial(is_over, job)).beside(alone)}"
        found = job.findings
        assert found is not None, job.reason
        rates = f"{found.records / found.seconds:,.0f} records/s, {found.keys / found.seconds:,.0f} keys/s"
        print(f"verified {found.records:,} records, {found.keys:,} keys in {found.seconds:.1f} s: {rates};", said)
        assert found.differences == 0, found
    began_s = time.monotonic()
    job = upkeep.rebuild(0, "bench")
    wait(job)
    took_s = time.monotonic() - began_s
    print(f"rebuilt {job.total_records:,} records in {took_s:.1f} s: {job.total_records / took_s:,.0f}/s", job.reason)


def main() -> None:
    """Fill, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", default="", help="Kafka's addresses. Without: the embedded log")
    servers = parser.parse_args().bootstrap_servers
    name = f"bench-verification-{os.urandom(3).hex()}"
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(bootstrap_servers=servers, data_dir=Path(folder), fsync=False)
        log = open_log(settings)
        ends = fill(log, name)
        worker = Worker(make_app(name), log, settings)
        worker.start()
        while not read(log, worker, ends):
            time.sleep(0.2)
        time.sleep(2.0)  # what is committed goes into the store
        assert worker.upkeep is not None, "it has started"
        run(worker.upkeep, worker)
        worker.stop()
        log.close()


if __name__ == "__main__":
    main()
