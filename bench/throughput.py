"""The benchmark: keyed stateful events on Kafka, exactly once, one worker; odradek beside its peers in one run.

    python -m bench.throughput --help

Loads the input once, then runs the contenders in turn, round by round (so that a machine that gets slower does so for
all), audits each output, prints medians and ratios, and writes them to bench/results/. See docs/bench.md.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.contenders import BENCH, CONTENDERS, DEFAULT, Contender, Run, Running, fresh_run, running
from bench.measure import StableOffsets, Throughput, read_output, throughput
from bench.workload import PARTITIONS, Workload, create_topic, delete_topics_of

QUIET_S = 2.0
START_TIMEOUT_S = 60
STALL_S = 20

console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One audited run of one contender."""

    contender: str
    round: int
    events_per_s: float
    measured_records: int
    measured_s: float
    commits_seen: int
    records: int
    complete: bool
    cpu_us_per_event: float
    mistakes: int
    events_per_s_by_fifth: list[float]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run of this benchmark has in common."""

    bootstrap_servers: str
    workload: Workload
    expected: Counter[bytes]
    directory: Path
    commit_interval_s: float
    warm_up: float
    limit_s: float

    def measure(self, contender: Contender, round_number: int, progress: Progress, task: TaskID) -> Outcome:
        """Run a contender to the end of the input or to the time limit, and audit what it wrote.

        Raises:
            RuntimeError: it ended by itself, never began, stopped half-way, or wrote something wrong.
        """
        run = fresh_run(contender, self.bootstrap_servers, self.workload.topic, self.directory, self.commit_interval_s)
        create_topic(self.bootstrap_servers, run.output)
        try:
            return self._measure(contender, run, round_number, progress, task)
        finally:
            delete_topics_of(self.bootstrap_servers, run.id)

    def _measure(self, contender: Contender, run: Run, round_number: int, progress: Progress, task: TaskID) -> Outcome:
        offsets = StableOffsets(self.bootstrap_servers, run.output)
        with running(contender, run) as process:
            offsets.start()
            try:
                self._wait(process, offsets, progress, task)
            finally:
                offsets.stop()
        output = read_output(self.bootstrap_servers, run.output)
        complete = output.records >= self.workload.events
        mistakes = output.mistakes(self.expected, counted=contender.counted, complete=complete)
        if mistakes:
            raise RuntimeError(f"{contender.title}: wrong output: {'; '.join(mistakes[:5])} … ({len(mistakes)} in all)")
        measured = throughput(offsets.samples, output, round(self.workload.events * self.warm_up))
        return outcome(contender, round_number, measured, output.records, complete=complete, cpu_s=process.cpu_s)

    def _wait(self, process: Running, offsets: StableOffsets, progress: Progress, task: TaskID) -> None:
        started = time.perf_counter()
        first: float | None = None
        while True:
            time.sleep(0.1)
            process.check()
            progress.update(task, completed=min(offsets.total, self.workload.events))
            now = time.perf_counter()
            if offsets.total == 0:
                if now - started > START_TIMEOUT_S:
                    raise RuntimeError(f"no committed output after {START_TIMEOUT_S} s:\n{process.said()}")
                continue
            first = first or now
            if offsets.total >= self.workload.events and offsets.quiet_s > QUIET_S:
                return
            if now - first > self.limit_s:
                return
            if offsets.quiet_s > STALL_S:
                raise RuntimeError(f"stopped at about {offsets.total} of {self.workload.events}:\n{process.said()}")


def outcome(
    contender: Contender, round_number: int, measured: Throughput, records: int, *, complete: bool, cpu_s: float
) -> Outcome:
    return Outcome(
        contender=contender.name,
        round=round_number,
        events_per_s=round(measured.events_per_s, 1),
        measured_records=measured.measured_records,
        measured_s=round(measured.measured_s, 3),
        commits_seen=measured.samples_with_progress,
        records=records,
        complete=complete,
        cpu_us_per_event=round(cpu_s / records * 1e6, 2),
        mistakes=0,
        events_per_s_by_fifth=measured.events_per_s_by_fifth,
    )


@contextmanager
def broker(given: str | None) -> Iterator[str]:
    """Yield bootstrap servers: those given, else those of the environment, else a broker of our own."""
    if given is not None:
        yield given
        return
    from tests.broker import running_broker

    with running_broker() as bootstrap_servers:
        yield bootstrap_servers


def bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<42}"),
        BarColumn(),
        TextColumn("{task.completed:>9,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        console=console,
    )


def machine() -> dict[str, object]:
    """Describe this machine without naming it."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "confluent_kafka": version("confluent-kafka"),
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def medians(outcomes: list[Outcome]) -> dict[str, float]:
    names = dict.fromkeys(each.contender for each in outcomes)
    return {name: statistics.median(each.events_per_s for each in outcomes if each.contender == name) for name in names}


def table(outcomes: list[Outcome]) -> Table:
    by_name = medians(outcomes)
    shown = Table(title="keyed stateful events, exactly once, one worker: median of the rounds, and ratios in this run")
    for heading in (
        "contender",
        "events/s",
        "lowest … highest",
        "by fifths of the events, k/s",
        "to Streams",
        "to bare loop",
        "CPU µs/event",
    ):
        shown.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, median in sorted(by_name.items(), key=lambda item: -item[1]):
        own = [each for each in outcomes if each.contender == name]
        rates = [each.events_per_s for each in own]
        shown.add_row(
            CONTENDERS[name].title,
            f"{median:,.0f}",
            f"{min(rates):,.0f} … {max(rates):,.0f}",
            " ".join(f"{rate / 1000:.0f}" for rate in typical_fifths(own)),
            _ratio(median, by_name.get("streams-1")),
            _ratio(median, by_name.get("bare")),
            f"{statistics.median(each.cpu_us_per_event for each in own):.1f}",
        )
    return shown


def typical_fifths(outcomes: list[Outcome]) -> list[float]:
    return [statistics.median(rates) for rates in zip(*(each.events_per_s_by_fifth for each in outcomes), strict=True)]


def _ratio(rate: float, to: float | None) -> str:
    return "" if to is None else f"{rate / to:.2f}"


def _ratios(rates: dict[str, float], to: str) -> dict[str, float]:
    return {name: round(rate / rates[to], 3) for name, rate in rates.items()} if to in rates else {}


def save(bench: Bench, rounds: int, outcomes: list[Outcome], about: dict[str, object]) -> Path:
    now = datetime.now(UTC)
    path = BENCH / "results" / f"throughput-{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    by_name = medians(outcomes)
    work = bench.workload
    document = {
        "what": "keyed stateful events, Kafka, exactly once, one worker",
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "machine": about,
        "workload": {
            "events": work.events, "keys": work.keys, "partitions": PARTITIONS, "partitioner": work.partitioner,
            "commit_interval_s": bench.commit_interval_s, "warm_up": bench.warm_up, "rounds": rounds,
        },
        "median_events_per_s": by_name,
        "ratio_to_kafka_streams": _ratios(by_name, "streams-1"),
        "ratio_to_bare_loop": _ratios(by_name, "bare"),
        "runs": [asdict(each) for each in outcomes],
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def main(
    events: Annotated[int, typer.Option(help="Events in the input topic.")] = 500_000,
    keys: Annotated[int, typer.Option(help="Distinct keys.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="How often each contender runs.")] = 3,
    only: Annotated[str, typer.Option(help=f"Comma-separated, of {', '.join(CONTENDERS)}.")] = ",".join(DEFAULT),
    warm_up: Annotated[float, typer.Option(help="Share of the events that is not measured.")] = 0.4,
    limit_s: Annotated[float, typer.Option(help="Stop a slow contender then; its rate still counts.")] = 25,
    commit_interval_s: Annotated[float, typer.Option(help="Commit interval of the peers.")] = 0.1,
    partitioner: Annotated[
        str, typer.Option(help="How the input's keys are spread: murmur2_random, or consistent_random (librdkafka's).")
    ] = "murmur2_random",
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="A broker to use; else KAFKA_BOOTSTRAP_SERVERS, else one is started.")
    ] = None,
    save_results: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """Measure keyed stateful events per second: odradek beside Kafka Streams, Quix Streams and a bare loop."""
    unknown = [name for name in only.split(",") if name not in CONTENDERS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(CONTENDERS)}", param_hint="--only")
    chosen = [CONTENDERS[name] for name in only.split(",")]
    about = machine()
    for contender in chosen:
        with console.status(f"building what {contender.title} needs"):
            contender.build()
    outcomes: list[Outcome] = []
    with broker(bootstrap_servers) as servers, tempfile.TemporaryDirectory() as directory, bars() as progress:
        workload = Workload(f"bench-input-{time.time_ns():x}", events, keys, partitioner)
        loading = progress.add_task("loading the input", total=events)
        expected = workload.load(servers, lambda done: progress.update(loading, completed=done))
        bench = Bench(servers, workload, expected, Path(directory), commit_interval_s, warm_up, limit_s)
        try:
            for number in range(1, rounds + 1):
                for contender in chosen:
                    task = progress.add_task(f"round {number}: {contender.title}", total=events)
                    done = bench.measure(contender, number, progress, task)
                    outcomes.append(done)
                    progress.update(task, description=f"round {number}: {contender.name} {done.events_per_s:,.0f}/s")
                    progress.stop_task(task)
        finally:
            delete_topics_of(servers, workload.topic)
    console.print(table(outcomes))
    if save_results:
        console.print(f"written: {save(bench, rounds, outcomes, about).relative_to(BENCH.parent)}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except RuntimeError as failed:
        console.print(str(failed), style="red", markup=False)
        sys.exit(1)
