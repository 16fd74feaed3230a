"""The profiler: py-spy beside a process, the samples it took, and the tables that are made of them.

py-spy (in a virtual environment of its own) looks at the worker from outside, so that what is measured is what runs, unlike
cProfile, which makes small functions look expensive. By default a sample counts only for the thread that holds the interpreter
lock, which is what a second of Python throughput consists of. Stands beside a contender that works (`bench.profile`,
`bench.waits.profile`).
"""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.command import console
from bench.contenders import BENCH
from bench.processes import threads

DurationS = Annotated[int, typer.Option(help="How long to watch.")]
RateHz = Annotated[int, typer.Option(help="Samples per second.")]
Rows = Annotated[int, typer.Option(help="Rows of each table.")]
AllThreads = Annotated[bool, typer.Option("--all-threads", help="Count every running thread, not only the one holding the lock.")]
VENV = BENCH / ".venv-pyspy"
THREAD = re.compile(r"thread \((\d+)\): (.*)")


@dataclass(frozen=True, slots=True)
class Look:
    """How a process is looked at."""

    duration_s: int
    rate_hz: int
    all_threads: bool


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


def sample(pid: int, done: Callable[[], int], look: Look, raw: Path) -> Profile:
    """Watch a process for a while; `done` says how many events it has done so far.

    Raises:
        RuntimeError: py-spy failed (it needs the right to trace processes), or nothing was committed meanwhile.
    """
    command = [
        str(build_py_spy()), "record", "--pid", str(pid), "--duration", str(look.duration_s), "--rate", str(look.rate_hz),
        "--format", "raw", "--threads", "--nonblocking", "--output", str(raw),
    ]  # fmt: skip
    used, before, began = threads(pid), done(), time.perf_counter()
    ran = subprocess.run(command if look.all_threads else [*command, "--gil"], capture_output=True, text=True, check=False)
    events, seconds = done() - before, time.perf_counter() - began
    cpu_s = {thread: (name, after - used.get(thread, (name, 0.0))[1]) for thread, (name, after) in threads(pid).items()}
    if ran.returncode != 0 or not raw.exists():
        raise RuntimeError(f"py-spy failed:\n{ran.stdout[-1000:]}{ran.stderr[-1000:]}")
    if events <= 0:
        raise RuntimeError("nothing was committed while the profiler watched: give it more --events")
    return Profile(look.rate_hz, events, seconds, parse(raw.read_text().splitlines()), cpu_s)


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


