"""The odradek contenders: `bench/apps/waits.py` under `odradek run`, on Kafka or on the embedded log, default settings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import Run, odradek_command, odradek_environment, started
from bench.waits.site import Site, Work, answers, until
from tests.broker.ports import PortLease

APPS = {
    Work.HTTP: "bench.apps.waits:app",
    Work.IN_FLIGHT: "bench.apps.waits:events_app",
    Work.EVENTS: "bench.apps.waits:events_app",
    Work.PACED: "bench.apps.keyed_count:app",
}


class Odradek:
    """odradek on one of its two logs; `idempotent`: its steps may run once too often, and so start at once."""

    counted = True

    def __init__(self, *, kafka: bool, idempotent: bool = False) -> None:
        self.name = ("odradek" if kafka else "embedded") + ("-idempotent" if idempotent else "")
        self.title = ("odradek, Kafka" if kafka else "odradek, embedded log") + (", idempotent steps" if idempotent else "")
        steps = {Work.HTTP, Work.EVENTS}
        self.works = frozenset(steps if not kafka else steps | {Work.IN_FLIGHT} if idempotent else Work)
        self._extra = {"BENCH_IDEMPOTENT": "1"} if idempotent else {}
        self.own_log = not kafka

    def build(self) -> None:
        """Nothing: it is here."""

    @contextmanager
    def serving(self, run: Run, work: Work) -> Iterator[Site]:
        """`odradek run`, ready when it says so."""
        data = data_dir(run)
        port, admin = PortLease.take(), PortLease.take()
        log = [] if self.own_log else ["--bootstrap-servers", run.bootstrap_servers]
        command = [
            *odradek_command(), "run", APPS[work], *log, "--workers", "1", "--data-dir", str(data), "--log-level", "warning",
            "--port", str(port.port), "--admin-port", str(admin.port),
        ]  # fmt: skip
        with started(command, run.log, {**os.environ, **odradek_environment(run), **self._extra}) as process:
            site = Site(port.port, [process], admin.port)
            until(lambda: answers(f"http://127.0.0.1:{admin.port}/ready"), "odradek to be ready", site)
            yield site
        port.release()
        admin.release()


def data_dir(run: Run) -> Path:
    """Where a run keeps its stores, and its log if that is embedded."""
    return run.directory / "data"
