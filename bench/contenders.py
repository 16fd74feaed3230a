"""The contenders: how each is built and started. All get the same input topic and an own group, output and folder.

Stands between the workload and the measurement; a contender is a process that works until SIGTERM.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
STREAMS = BENCH / "peers" / "streams"
QUIX_VENV = BENCH / ".venv-quix"
STOP_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender: its names on Kafka, and its folder."""

    id: str
    bootstrap_servers: str
    input: str
    directory: Path
    commit_interval_s: float

    @property
    def output(self) -> str:
        return f"{self.id}-output"

    @property
    def group(self) -> str:
        return f"{self.id}-app"

    @property
    def log(self) -> Path:
        return self.directory / "contender.log"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to do the work.

    `counted` says that its outputs carry running counts, which the audit then checks; `build` prepares what it needs.
    """

    name: str
    title: str
    command: Callable[[Run], list[str]]
    build: Callable[[], None] = lambda: None
    counted: bool = True


def odradek(app: str) -> Callable[[Run], list[str]]:
    def command(run: Run) -> list[str]:
        return [
            *odradek_command(), "run", f"bench.apps.keyed_count:{app}", "--workers", "1",
            "--bootstrap-servers", run.bootstrap_servers, "--data-dir", str(run.directory / "data"),
            "--port", "0", "--admin-port", "0",
        ]  # fmt: skip

    return command


def odradek_command() -> list[str]:
    script = Path(sys.executable).with_name("odradek")
    return [str(script)] if script.exists() else [sys.executable, "-m", "odradek_runtime.cli"]


def names(run: Run) -> dict[str, str]:
    """What an app is told of a run, whoever's app it is."""
    return {"BENCH_APP": run.group, "BENCH_INPUT": run.input, "BENCH_OUTPUT": run.output}


def odradek_environment(run: Run) -> dict[str, str]:
    """The names the app reads, and where to import it and the engine from."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "sdk", "runtime", "connectors"))
    return {
        **names(run),
        "PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")])),
    }


def streams(threads: int, *, caching: bool = True) -> Callable[[Run], list[str]]:
    def command(run: Run) -> list[str]:
        return [
            "java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", f"{STREAMS}/target/classes:{STREAMS}/target/libs/*", "bench.KeyedCount",
            run.bootstrap_servers, run.input, run.output, run.group, str(run.directory / "state"),
            str(threads), str(caching).lower(), str(round(run.commit_interval_s * 1000)),
        ]  # fmt: skip

    return command


def build_streams() -> None:
    """Build the Java peer unless what was built is newer than its sources.

    Raises:
        RuntimeError: Maven is missing or failed.
    """
    built = STREAMS / "target" / "built"
    sources = [STREAMS / "pom.xml", *STREAMS.glob("src/**/*.java")]
    if built.exists() and all(built.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    if shutil.which("mvn") is None:
        raise RuntimeError("the Kafka Streams peer is built with Maven: install it, or leave the peer out (--only)")
    ran = subprocess.run(
        ["mvn", "-q", "-B", "package"],
        cwd=STREAMS, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if ran.returncode != 0:
        raise RuntimeError(f"building the Kafka Streams peer failed:\n{ran.stdout[-3000:]}{ran.stderr[-1000:]}")
    built.touch()


def bare_loop(run: Run) -> list[str]:
    return [sys.executable, "-m", "bench.peers.bare_loop", *_peer_options(run)]


def quix(run: Run) -> list[str]:
    python = str(QUIX_VENV / "bin" / "python")
    return [python, str(BENCH / "peers" / "quix.py"), *_peer_options(run), "--state-dir", str(run.directory / "state")]


def build_quix() -> None:
    """Make the virtual environment of Quix Streams if it is not there."""
    if not (QUIX_VENV / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(QUIX_VENV)], check=True)
        subprocess.run([str(QUIX_VENV / "bin" / "pip"), "install", "-q", "quixstreams==3.28.1"], check=True)
        (QUIX_VENV / "installed").touch()


def _peer_options(run: Run) -> list[str]:
    return [
        "--bootstrap-servers", run.bootstrap_servers, "--input", run.input, "--output", run.output,
        "--group", run.group, "--commit-interval-s", str(run.commit_interval_s),
    ]  # fmt: skip


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("odradek", "odradek", odradek("app")),
        Contender("odradek-struct", "odradek, msgspec.Struct", odradek("struct_app")),
        Contender("streams-1", "Kafka Streams, 1 thread", streams(1), build_streams),
        Contender("streams-2", "Kafka Streams, 2 threads", streams(2), build_streams),
        Contender("streams-1-uncached", "Kafka Streams, no record cache", streams(1, caching=False), build_streams),
        Contender("bare", "bare loop", bare_loop, counted=False),
        Contender("quix", "Quix Streams", quix, build_quix),
    )
}
DEFAULT = ("odradek", "streams-1", "streams-2", "bare", "quix")


class Running:
    """A started contender."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, stop_signal: int = signal.SIGTERM) -> None:
        self._process = process
        self._log = log
        self._stop_signal = stop_signal

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise if the contender has ended.

        Raises:
            RuntimeError: it has; the message carries the end of what it said.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"the contender ended with {self._process.returncode}:\n{self.said()}")

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """SIGTERM, or what it wants instead, then SIGKILL to the whole process group."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that no contender and no broker is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def running(contender: Contender, run: Run) -> Iterator[Running]:
    """Start a contender, and stop it whatever happens."""
    environment = {**os.environ, **odradek_environment(run)}
    if contender.name == "quix":
        environment.pop("PYTHONPATH")
    with started(contender.command(run), run.log, environment) as process:
        yield process


@contextmanager
def started(
    command: list[str], log: Path, environment: Mapping[str, str], user: str | None = None, stop_signal: int = signal.SIGTERM
) -> Iterator[Running]:
    """Start a process in a group of its own, under another user if there is one named, and stop it whatever happens."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            start_new_session=True, user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
    running = Running(process, log, stop_signal)
    try:
        yield running
    finally:
        running.stop()


def fresh_run(contender: Contender, bootstrap_servers: str, topic: str, root: Path, commit_interval_s: float) -> Run:
    """Name a run so that nothing is shared with any other."""
    run_id = f"bench-{contender.name}-{time.time_ns():x}"
    directory = root / run_id
    directory.mkdir(parents=True)
    return Run(run_id, bootstrap_servers, topic, directory, commit_interval_s)
