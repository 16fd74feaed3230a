"""Worker processes to be killed, frozen and sent home; each in a process group of its own, supervisor included.

Stands outside the engine: everything here is done as an operator, an orchestrator or a power cut would do it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from odradek_runtime.cli import connect
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Log, LogError, Partition
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.store.data_folder import WORKER_FILE
from tests.records import committed

ROOT = Path(__file__).resolve().parent.parent.parent
APP = "tests.faults.apps:app"
DEADLINE_S = 120.0


def until(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S, every_s: float = 0.02) -> float:
    """Wait until it holds; gives the seconds that took, fails after the deadline."""
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        assert waited_s < timeout_s, f"after {waited_s:.0f} s still waiting for {what}"
        time.sleep(every_s)
    return time.monotonic() - began


class Place:
    """One app on one log: a folder, Kafka's addresses ("" = the embedded log), and what its workers are told."""

    def __init__(self, folder: Path, app: str, bootstrap_servers: str = "", env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.app = app
        self.bootstrap_servers = bootstrap_servers
        self.worker_servers = bootstrap_servers
        self.env = {"FAULTS_APP": app, **(env or {})}
        self.history: list[str] = []
        self._began_s = time.monotonic()
        self._workers: list[Worker] = []

    @property
    def settings(self) -> Settings:
        """To open the log beside the workers, or after them."""
        return Settings(data_dir=self.folder / "log", bootstrap_servers=self.bootstrap_servers)

    def open(self) -> Log:
        """The log itself; the embedded one only while no worker runs (a killed one may outlive its supervisor by a write)."""
        opened: list[Log] = []

        def free() -> bool:
            try:
                opened.append(open_log(self.settings))
            except LogError as error:
                if "is open in" not in str(error):
                    raise
            return bool(opened)

        until(free, "the end of whoever has the log open")
        return opened[0]

    def beside(self) -> Log:
        """The log while a worker runs."""
        return connect.beside(self.settings)

    def worker(self, name: str = "w", *flags: str) -> Worker:
        """A worker, not yet started. On the embedded log there is one at a time."""
        made = Worker(self, name, flags)
        self._workers.append(made)
        return made

    def note(self, what: str) -> None:
        """Remember it for the report of a failure."""
        self.history.append(f"{time.monotonic() - self._began_s:7.2f} s  {what}")

    def story(self) -> str:
        """What happened, and the last words of every worker."""
        lines = [f"app {self.app} in {self.folder}", *self.history]
        for worker in self._workers:
            lines += [f"--- {worker.name} ---", worker.words()]
        return "\n".join(lines)

    def close(self) -> None:
        """Kill whatever still runs."""
        for worker in self._workers:
            worker.kill()


class Worker:
    """`odradek run` of the app: started, killed, frozen, sent home and started again."""

    def __init__(self, place: Place, name: str, flags: tuple[str, ...]) -> None:
        self.name = name
        self._place = place
        self._flags = flags
        self._log = place.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        """Where its worker.json and its stores are."""
        on_kafka = bool(self._place.worker_servers)
        return self._place.folder / self.name / "worker-0" if on_kafka else self._place.folder / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Worker:
        """Start it; returns at once."""
        place = self._place
        folder = place.folder / self.name if place.worker_servers else place.folder / "log"
        command = [sys.executable, "-m", "odradek_runtime.cli", "run", APP, "--port", "0", "--admin-port", "0"]
        command += ["--data-dir", str(folder), *self._flags]
        if place.worker_servers:
            command += ["--bootstrap-servers", place.worker_servers]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ODRADEK_", "FAULTS_"))}
        environ = {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **place.env}
        with self._log.open("ab") as words:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=words, stderr=words, start_new_session=True
            )
        place.note(f"{self.name} started")
        return self

    def kill(self) -> None:
        """SIGKILL to the supervisor and its worker: nothing is finished or handed over."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._place.note(f"{self.name} killed")

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP, "frozen")

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, "thawed")

    def stop(self) -> float:
        """SIGTERM, once it is up, and wait until it has handed over and ended; gives the seconds that took."""
        assert self._process is not None
        until(lambda: self.shards() is not None, f"{self.name} to be ready before it is told to stop")
        began = time.monotonic()
        self._process.terminate()
        self._place.note(f"{self.name} told to stop")
        code = self._process.wait(60)
        self._place.note(f"{self.name} ended with {code}")
        assert code == 0, f"{self.name} ended with {code}"
        return time.monotonic() - began

    def words(self) -> str:
        """The end of what it printed, over all its lives."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def shards(self) -> list[int] | None:
        """The shards that it owns and has restored; None while it is not ready."""
        try:
            found = json.loads((self.data_dir / WORKER_FILE).read_text())
            answer = httpx.get(found["admin_url"] + "/ready", timeout=2.0, trust_env=False)
        except (OSError, ValueError, httpx.TransportError):
            return None
        return list(answer.json()["shards"]) if answer.is_success else None

    def wait_ready(self, shards: int = 1) -> float:
        """Wait until it has restored at least so many shards."""

        def ready() -> bool:
            assert self.running, f"{self.name} has ended:\n{self.words()}"
            return len(self.shards() or []) >= shards

        return until(ready, f"{shards} shards at {self.name}", every_s=0.1)

    def _signal(self, number: signal.Signals, what: str) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)
        self._place.note(f"{self.name} {what}")


class Gauge:
    """Looks at end offsets while workers come and go; between them it answers what it saw last."""

    def __init__(self, place: Place, topics: list[str]) -> None:
        self._place = place
        self._topics = topics
        self._log: Log | None = None
        self.last = 0
        """What was seen last."""

    def read(self) -> int:
        """The sum of the topics' end offsets; on Kafka commit markers count too."""
        try:
            if self._log is None:
                self._log = self._place.beside()
            self.last = max(self.last, sum(_length(self._log, topic) for topic in self._topics))
        except LogError:
            self.close()
        return self.last

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def _length(log: Log, topic: str) -> int:
    info = log.topic(topic)
    return sum(log.offsets(Partition(topic, number))[1] for number in range(info.partitions if info else 0))


def count(log: Log, topic: str) -> int:
    """How many committed records there are."""
    return sum(1 for _ in committed(log, topic))
