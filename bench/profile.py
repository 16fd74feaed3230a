"""Where the time goes: the odradek contender under a sampling profiler, in microseconds per event.

    python -m bench.profile --help

Runs the same work as bench.throughput. py-spy (in a virtual environment of its own) looks at the worker from outside,
so that what is measured is what runs, unlike cProfile, which makes small functions look expensive. By default a sample
counts only for the thread that holds the interpreter lock, which is what a second of Python throughput consists of.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.contenders import BENCH, CONTENDERS, Run, end_on_sigterm, fresh_run, running
from bench.measure import StableOffsets
from bench.processes import busiest, threads
from bench.throughput import START_TIMEOUT_S, bars, broker, console
from bench.workload import Workload, create_topic, delete_topics_of

VENV = BENCH / ".venv-pyspy"
THREAD = re.compile(r"thread \((\d+)\): (.*)")
PEERS_IN_PYTHON = ("odradek", "bare", "quix")


@dataclass(slots=True)
class Profile:
    """Samples of one stretch of steady work, and how many events that stretch committed."""

    rate_hz: int
    events: int
    seconds: float
    stacks: Counter[tuple[str, ...]] = field(default_factory=lambda: Counter())
    cpu_s: dict[int, tuple[str, float]] = field(default_factory=dict)

    def us_per_event(self, samples: int) -> float:
        return samples / self.rate_hz / self.events * 1e6

    def own(self, name_of: Callable[[str], str]) -> Counter[str]:
        """Samples by where the processor was."""
        totals: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            totals[name_of(stack[-1])] += samples
        return totals

    def inclusive(self) -> Counter[str]:
        """Samples by function, what it called included."""
        totals: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            for name in {function_of(frame) for frame in stack[1:]}:
                totals[name] += samples
        return totals

    def processor_times(self) -> Counter[str]:
        """Processor time in nanoseconds by thread, librdkafka's included; does not grow when others want the processor."""
        named = {int(found[1]): found[2] for stack in self.stacks if (found := THREAD.match(stack[0]))}
        totals: Counter[str] = Counter()
        for thread, (name, seconds) in self.cpu_s.items():
            totals[named.get(thread, name)] += round(seconds * 1e9)
        return totals

    def threads(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            totals[stack[0].split(": ", 1)[-1]] += samples
        return totals


def module_of(frame: str) -> str:
    """`name (path/file.py:12)` → `path/file.py`."""
    return frame.rsplit("(", 1)[-1].rstrip(")").rsplit(":", 1)[0]


def function_of(frame: str) -> str:
    """`name (path/file.py:12)` → `name (path/file.py)`."""
    return f"{frame.rsplit(' (', 1)[0]} ({module_of(frame)})"


def build_py_spy() -> Path:
    """Return py-spy, installed into its own virtual environment if it is not there."""
    program = VENV / "bin" / "py-spy"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "-q", "py-spy"], check=True)
    return program


def parse(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """py-spy's raw format: frames from the thread down, joined by semicolons, then the number of samples."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        frames, _, samples = line.rstrip().rpartition(" ")
        if frames:
            stacks[tuple(frames.split(";"))] += int(samples)
    return stacks


def sample(pid: int, done: Callable[[], int], duration_s: int, rate_hz: int, raw: Path, *, all_threads: bool) -> Profile:
    """Watch a process for a while; `done` says how many events it has done so far.

    Raises:
        RuntimeError: py-spy failed (it needs the right to trace processes), or nothing was committed meanwhile.
    """
    command = [
        str(build_py_spy()), "record", "--pid", str(pid), "--duration", str(duration_s), "--rate", str(rate_hz),
        "--format", "raw", "--threads", "--nonblocking", "--output", str(raw),
    ]  # fmt: skip
    used, before, began = threads(pid), done(), time.perf_counter()
    ran = subprocess.run(command if all_threads else [*command, "--gil"], capture_output=True, text=True, check=False)
    events, seconds = done() - before, time.perf_counter() - began
    cpu_s = {thread: (name, after - used.get(thread, (name, 0.0))[1]) for thread, (name, after) in threads(pid).items()}
    if ran.returncode != 0 or not raw.exists():
        raise RuntimeError(f"py-spy failed:\n{ran.stdout[-1000:]}{ran.stderr[-1000:]}")
    if events <= 0:
        raise RuntimeError("nothing was committed while the profiler watched: give it more --events")
    return Profile(rate_hz, events, seconds, parse(raw.read_text().splitlines()), cpu_s)


def show(profile: Profile, top: int) -> None:
    rate = profile.events / profile.seconds
    console.print(f"{profile.events:,} events in {profile.seconds:.1f} s while watched: {rate:,.0f}/s")
    times = profile.processor_times()
    table = Table("thread", title="processor time", title_justify="left")
    table.add_column("µs/event", justify="right")
    for name, nanoseconds in (*times.most_common(top), ("all", times.total())):
        table.add_row(name, f"{nanoseconds / 1000 / profile.events:.2f}")
    console.print(table)
    rankings = {
        "by thread": profile.threads(),
        "by file, own time": profile.own(module_of),
        "by function, own time": profile.own(function_of),
        "by line, own time": profile.own(lambda frame: frame),
        "by function, calls included": profile.inclusive(),
    }
    total = sum(profile.stacks.values())
    for title, ranking in rankings.items():
        table = Table("where", title=title, title_justify="left")
        table.add_column("µs/event", justify="right")
        table.add_column("share", justify="right")
        for name, samples in ranking.most_common(top):
            table.add_row(name, f"{profile.us_per_event(samples):.2f}", f"{samples / total:.0%}")
        console.print(table)


def wait_for_output(offsets: StableOffsets, records: int) -> None:
    """Return when that much is committed.

    Raises:
        RuntimeError: it was not in a minute.
    """
    give_up_at = time.perf_counter() + START_TIMEOUT_S
    while offsets.total < records:
        if time.perf_counter() > give_up_at:
            raise RuntimeError(f"only {offsets.total} committed outputs after {START_TIMEOUT_S} s")
        time.sleep(0.02)


def profile_run(run: Run, contender: str, warm_up: int, settings: tuple[int, int, bool]) -> Profile:
    create_topic(run.bootstrap_servers, run.output)
    offsets = StableOffsets(run.bootstrap_servers, run.output)
    duration_s, rate_hz, all_threads = settings
    with running(CONTENDERS[contender], run) as process:
        offsets.start()
        try:
            wait_for_output(offsets, warm_up)
            raw = run.directory / "samples.txt"
            return sample(busiest(process.pid), lambda: offsets.total, duration_s, rate_hz, raw, all_threads=all_threads)
        except RuntimeError as failed:
            raise RuntimeError(f"{failed}\n{process.said()}") from failed
        finally:
            offsets.stop()
            delete_topics_of(run.bootstrap_servers, run.id)


def main(
    events: Annotated[int, typer.Option(help="Events in the input topic.")] = 1_000_000,
    keys: Annotated[int, typer.Option(help="Distinct keys.")] = 10_000,
    contender: Annotated[str, typer.Option(help=f"One of {', '.join(PEERS_IN_PYTHON)}.")] = "odradek",
    duration_s: Annotated[int, typer.Option(help="How long to watch.")] = 6,
    rate_hz: Annotated[int, typer.Option(help="Samples per second.")] = 250,
    top: Annotated[int, typer.Option(help="Rows of each table.")] = 20,
    all_threads: Annotated[
        bool, typer.Option("--all-threads", help="Count every running thread, not only the one holding the lock.")
    ] = False,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="A broker to use; else KAFKA_BOOTSTRAP_SERVERS, else one is started.")
    ] = None,
) -> None:
    """Show where a Python contender spends its time per event."""
    build_py_spy()
    CONTENDERS[contender].build()
    with broker(bootstrap_servers) as servers, tempfile.TemporaryDirectory() as directory:
        workload = Workload(f"bench-input-{time.time_ns():x}", events, keys)
        with bars() as progress:
            loading = progress.add_task("loading the input", total=events)
            workload.load(servers, lambda done: progress.update(loading, completed=done))
        run = fresh_run(CONTENDERS[contender], servers, workload.topic, Path(directory), 0.1)
        try:
            profile = profile_run(run, contender, events // 10, (duration_s, rate_hz, all_threads))
        finally:
            delete_topics_of(servers, workload.topic)
    show(profile, top)


if __name__ == "__main__":
    end_on_sigterm()
    try:
        typer.run(main)
    except RuntimeError as failed:
        console.print(str(failed), style="red", markup=False)
        sys.exit(1)
