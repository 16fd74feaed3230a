"""`make demo`: a year of flights through `flights.py`, the worker killed midway, and the totals compared with the file.

python -m examples.demo               on the embedded log
python -m examples.demo --kafka       on Kafka: KAFKA_BOOTSTRAP_SERVERS, or a broker started for it
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples import demo_audit, demo_data
from odradek_runtime.cli import connect
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Log, LogError, Partition

ROOT = Path(__file__).resolve().parent.parent
APP = "examples.flights:app"
PARTITIONS = 4
KILL_AT = 0.4
STUCK_S = 90.0
TUNING = {"ODRADEK_EPOCH_EVENTS", "ODRADEK_COROUTINE_CACHE"}
"""Settings that a test may give to the demo's worker."""
ODRADEK = [sys.executable, "-m", "odradek_runtime.cli"]

console = Console(highlight=False)


@dataclass
class Place:
    """Where this run happens: a folder of its own, and Kafka's addresses ("" = the embedded log)."""

    folder: Path
    bootstrap_servers: str

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder / "odradek", bootstrap_servers=self.bootstrap_servers)

    @property
    def flags(self) -> list[str]:
        """What every command of this run is told."""
        flags = ["--data-dir", str(self.settings.data_dir)]
        return flags + (["--bootstrap-servers", self.bootstrap_servers] if self.bootstrap_servers else [])


def main() -> int:
    """Run the demo; 0 when the totals are equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", action="store_true", help="on Kafka instead of the embedded log")
    parser.add_argument("--flights", type=int, metavar="N", help="only the first N departures of the year")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "demo", help="emptied at the start (default: .cache/demo)")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        place = Place(_empty(chosen.folder), stack.enter_context(_kafka()) if chosen.kafka else "")
        return _demo(place, chosen.flights)


def _demo(place: Place, limit: int | None) -> int:
    started = time.monotonic()
    zipped = demo_data.fetch(ROOT / ".cache" / demo_data.PACKAGE)
    downloaded = time.monotonic()
    source = place.folder / "departures.csv"
    truth = demo_data.sort(zipped, source, limit)
    console.print(f"[bold]{truth.rows:,}[/] departures from New York in 2013, {len(truth.aircraft):,} aircraft")
    with connect.log(place.settings) as log:
        log.create_topic("arrivals", PARTITIONS, {})
    _publish(place, source)
    _process(place, truth)
    with connect.log(place.settings, must_exist=True) as log:
        found = demo_audit.read(log)
    console.print("[bold]the ten aircraft that lost most minutes[/]")
    console.print(_table(found))
    wrong = demo_audit.differences(truth, found)
    for line in wrong:
        console.print(f"[bold red]✗[/] {line}")
    if not wrong:
        console.print(_equal(truth))
    took_s, download_s = time.monotonic() - downloaded, downloaded - started
    console.print(f"[dim]{took_s:.0f} s, and {download_s:.0f} s for the download; all is left in {place.folder}[/]")
    return 1 if wrong else 0


def _publish(place: Place, source: Path) -> None:
    command = [*ODRADEK, "publish", "departures", str(source), "--key", "tailnum", "--null", "NA", "--app", APP]
    command += ["--create", "--partitions", str(PARTITIONS), *place.flags]
    code = subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode
    if code != 0:
        raise SystemExit(f"publishing failed (exit code {code})")


# --- the worker, and its end ------------------------------------------------------------------------------------------


def _process(place: Place, truth: demo_data.Truth) -> None:
    """Run the worker until every departure is an arrival or a dead letter; kill it once on the way."""
    worker = Worker(place, truth.rows)
    killed = False
    last, moved_s = -1, time.monotonic()
    columns = (
        TextColumn("processing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeElapsedColumn(),
    )
    with worker, Progress(*columns, console=console) as progress:
        task = progress.add_task("processing", total=truth.rows, rate="-")
        while (done := worker.processed()) < truth.rows:
            progress.update(task, completed=done, rate=worker.rate(done))
            if done != last:
                last, moved_s = done, time.monotonic()
            if time.monotonic() - moved_s > STUCK_S or worker.ended:
                raise SystemExit(f"stuck at {done:,} of {truth.rows:,}; the worker said:\n{worker.words()}")
            if not killed and done >= truth.rows * KILL_AT:
                killed = True
                worker.kill()
                console.print(f"[bold red]kill -9[/] of the worker after {max(done, 0):,} departures; starting it again")
                worker.start()
            time.sleep(0.1)
        progress.update(task, completed=truth.rows)
    if not killed:
        raise SystemExit("the worker was through before it could be killed: that proves nothing")


class Worker:
    """`odradek run` in a process group of its own, so that SIGKILL takes the supervisor and its worker at once."""

    def __init__(self, place: Place, expected: int) -> None:
        self._place = place
        self._expected = expected
        self._reader: Log | None = None
        self._log = place.folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = time.monotonic()
        self._began_at = 0
        self._last = 0

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._forget_reader()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    def start(self) -> None:
        """Start it; its words go to worker.log."""
        command = [*ODRADEK, "run", APP, "--port", "0", "--admin-port", "0", *self._place.flags]
        with self._log.open("ab") as words:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=_environment(), stdout=words, stderr=words, start_new_session=True
            )
        self._began_s, self._began_at = time.monotonic(), self._last

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is finished or handed over."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def ended(self) -> bool:
        """True when the process is gone without having been killed here."""
        return self._process is not None and self._process.poll() is not None

    def words(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def processed(self) -> int:
        """How many departures have their outcome in the log.

        The end offsets tell, which on Kafka count commit markers too: there the records are counted once it may be all.
        """
        try:
            if self._reader is None:
                self._reader = connect.beside(self._place.settings)
            lengths = {topic: _ends(self._reader, topic) for topic in ("arrivals", demo_audit.DEAD_LETTERS)}
            done = sum(end for ends in lengths.values() for end in ends)
            if self._place.bootstrap_servers and done >= self._expected:
                done = sum(1 for topic in lengths for _ in demo_audit.records(self._reader, topic))
        except LogError:
            # Between a kill and the next start nobody answers.
            self._forget_reader()
            return self._last
        self._last = max(self._last, done)
        return self._last

    def rate(self, done: int) -> str:
        """Departures per second since the last start."""
        return f"{(done - self._began_at) / max(time.monotonic() - self._began_s, 0.1):,.0f}"

    def _forget_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


# --- what is shown ----------------------------------------------------------------------------------------------------


def _table(found: demo_audit.Found) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("aircraft", style="bold")
    for column in ("minutes late", "flights", "rebooked"):
        table.add_column(column, justify="right")
    worst = sorted(found.aircraft.items(), key=lambda item: (-item[1].minutes_late, item[0]))[:10]
    for tail, one in worst:
        table.add_row(tail, f"{one.minutes_late:,}", f"{one.flights:,}", f"{one.rebooked:,}")
    return table


def _equal(truth: demo_data.Truth) -> str:
    minutes = sum(one.minutes_late for one in truth.aircraft.values())
    outputs = truth.outputs.total()
    return (
        f"[bold green]equal[/]: log and file agree on {len(truth.aircraft):,} aircraft, {minutes:,} minutes late, "
        f"{outputs:,} outputs, none twice, {len(truth.cancelled):,} rebookings, one each, "
        f"{truth.dead_letters:,} dead letters: {outputs:,} + {truth.dead_letters:,} = {truth.rows:,}"
    )


# --- surroundings -----------------------------------------------------------------------------------------------------


def _ends(log: Log, topic: str) -> list[int]:
    info = log.topic(topic)
    return [log.offsets(Partition(topic, number))[1] for number in range(info.partitions if info else 0)]


def _empty(folder: Path) -> Path:
    """The demo's folder, new. Refuses one that holds something else."""
    marker = folder / ".odradek-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise SystemExit(f"{folder} holds something that is not the demo's: give an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()
    return folder.resolve()


def _environment() -> dict[str, str]:
    """The packages that this process sees, for the ones it starts; none of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODRADEK_") or name in TUNING}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def _kafka() -> Generator[str]:
    from tests.broker import running_broker

    with running_broker() as address:
        console.print(f"Kafka at {address}")
        yield address


if __name__ == "__main__":
    sys.exit(main())
