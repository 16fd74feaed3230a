"""A request beside 100,000 timers that are due at once: how long it takes. Run by hand: `python -m bench.due_timers [COUNT]`."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from odradek import App, Context
from odradek_runtime.clock import SYSTEM, Clock
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.routing import fresh_id
from odradek_runtime.worker.worker import Worker

BATCH = 1_000
AHEAD_S = 3_600


def app(fired: list[int]) -> App:
    """Delayed sends, and what is asked beside them."""
    made = App("due", shards=4)

    @made.handler
    async def note(_: Context, n: int) -> None:
        fired.append(n)

    @made.handler
    async def plan(ctx: Context, start: int) -> None:
        for n in range(start, start + BATCH):
            ctx.send("due/note", n, delay=AHEAD_S)

    @made.handler
    async def ping(_: Context) -> str:
        return "pong"

    return made


def ask(worker: Worker, target: str, payload: bytes = b"") -> float:
    """Ask and wait; gives the seconds."""
    there = threading.Event()

    def answer(_: Reply) -> None:
        there.set()

    began = time.perf_counter()
    worker.ask(Invoke(fresh_id(None, os.urandom(12)), target, b"", payload, {}, True, False, 0), answer)
    there.wait()
    return time.perf_counter() - began


def main(count: int) -> None:
    """Plan so many, let the clock pass their time, ask until they have all fired."""
    fired: list[int] = []
    passed_ms = [0.0]
    clock = Clock(lambda: SYSTEM.wall_ms() + passed_ms[0], lambda: SYSTEM.steady_ms() + passed_ms[0])
    with tempfile.TemporaryDirectory() as folder:
        log = EmbeddedLog(Path(folder) / "log")
        worker = Worker(app(fired), log, Settings(data_dir=Path(folder)), clock=clock)
        worker.start()
        while not worker.ready:
            time.sleep(0.01)
        for start in range(0, count, BATCH):
            ask(worker, "due/plan", str(start).encode())
        time.sleep(2.0)
        passed_ms[0] += AHEAD_S * 1000
        took_s: list[float] = []
        began = time.perf_counter()
        while len(fired) < count:
            took_s.append(ask(worker, "due/ping"))
            time.sleep(0.02)
        whole_s = time.perf_counter() - began
        worker.stop()
        log.close()
    took_s.sort()
    print(f"{count} timers in {whole_s:.1f} s; {len(took_s)} requests beside them: p50 {statistics.median(took_s) * 1000:.1f} ms, "
          f"p99 {took_s[int(len(took_s) * 0.99)] * 1000:.1f} ms, longest {took_s[-1] * 1000:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
