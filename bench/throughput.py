"""The benchmark: keyed stateful events on Kafka, exactly once, one worker; odradek beside its peers in one run.

    python -m bench.throughput --help

Loads the input once, then runs the contenders in turn, round by round (so that a machine that gets slower does so for
all), audits each output, prints medians and ratios, and writes them to bench/results/. See docs/bench.md.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.command import BootstrapServers, console, run_command
from bench.contenders import BENCH, CONTENDERS, DEFAULT, Contender, Run, Running, fresh_run, running
from bench.measure import StableOffsets, read_output, throughput
from bench.processes import ProcessorTime
from bench.report import Outcome, load_average, save, table
from bench.workload import PARTITIONS, Workload, create_topic, delete_topics_of

QUIET_S = 2.0
START_TIMEOUT_S = 60
STALL_S = 20
BROKER_JVM = ("-Xms1g", "-Xmx1g")  # with its full compiler, unlike the brokers of tests, which must start fast


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
            used = ProcessorTime(process.pid)
            offsets.start()
            try:
                self._wait(process, used, offsets, progress, task)
            finally:
                offsets.stop()
        output = read_output(self.bootstrap_servers, run.output)
        complete = output.records >= self.workload.events
        mistakes = output.mistakes(self.expected, counted=contender.counted, complete=complete)
        if mistakes:
            raise RuntimeError(f"wrong output: {'; '.join(mistakes[:5])} … ({len(mistakes)} in all)")
        measured = throughput(offsets.samples, output, round(output.records * self.warm_up))
        cpu_s = used.between(measured.start_s, measured.end_s)
        return Outcome(
            contender=contender.name,
            round=round_number,
            events_per_s=round(measured.events_per_s, 1),
            measured_records=measured.records,
            measured_s=round(measured.end_s - measured.start_s, 3),
            commits_seen=measured.commits_seen,
            records=output.records,
            complete=complete,
            cpu_us_per_event=round(cpu_s / measured.records * 1e6, 2),
            events_per_s_by_fifth=measured.events_per_s_by_fifth,
        )

    def _wait(self, process: Running, used: ProcessorTime, offsets: StableOffsets, progress: Progress, task: TaskID) -> None:
        started = time.perf_counter()
        first: float | None = None
        while True:
            time.sleep(0.1)
            process.check()
            used.note()
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


@contextmanager
def broker(given: str | None) -> Iterator[str]:
    """Yield bootstrap servers: those given, else those of the environment, else a broker of our own."""
    if given is not None:
        yield given
        return
    from tests.broker import running_broker

    with running_broker(jvm_options=BROKER_JVM) as bootstrap_servers:
        yield bootstrap_servers


def bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<42}"),
        BarColumn(),
        TextColumn("{task.completed:>9,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        console=console,
    )


def run_all(bench: Bench, chosen: list[Contender], rounds: int, progress: Progress) -> tuple[list[Outcome], list[str]]:
    """Every contender in every round; one that fails is left out of the rounds that follow, and told of at the end.

    Each round begins with another one: the first of all meets a broker whose JIT has hardly begun.
    """
    outcomes: list[Outcome] = []
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        first = (number - 1) % len(chosen)
        for contender in chosen[first:] + chosen[:first]:
            if contender.name in failures:
                continue
            task = progress.add_task(f"round {number}: {contender.title}", total=bench.workload.events)
            try:
                done = bench.measure(contender, number, progress, task)
            except RuntimeError as failed:
                failures[contender.name] = f"{contender.title}, round {number}: {failed}"
                progress.update(task, description=f"round {number}: {contender.name} failed")
            else:
                outcomes.append(done)
                progress.update(task, description=f"round {number}: {contender.name} {done.events_per_s:,.0f}/s")
            progress.stop_task(task)
    return outcomes, list(failures.values())


def main(
    events: Annotated[int, typer.Option(help="Events in the input topic.")] = 500_000,
    keys: Annotated[int, typer.Option(help="Distinct keys.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="How often each contender runs.")] = 3,
    only: Annotated[str, typer.Option(help=f"Comma-separated, of {', '.join(CONTENDERS)}.")] = ",".join(DEFAULT),
    warm_up: Annotated[float, typer.Option(help="Share of the processed events that is not measured.")] = 0.4,
    limit_s: Annotated[float, typer.Option(help="Stop a slow contender then; its rate still counts.")] = 25,
    commit_interval_s: Annotated[float, typer.Option(help="Commit interval of the peers.")] = 0.1,
    partitioner: Annotated[
        str, typer.Option(help="How the input's keys are spread: murmur2_random, or consistent_random (librdkafka's).")
    ] = "murmur2_random",
    bootstrap_servers: BootstrapServers = None,
    save_results: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """Measure keyed stateful events per second: odradek beside Kafka Streams, Quix Streams and a bare loop."""
    unknown = [name for name in only.split(",") if name not in CONTENDERS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(CONTENDERS)}", param_hint="--only")
    chosen = [CONTENDERS[name] for name in only.split(",")]
    for contender in chosen:
        with console.status(f"building what {contender.title} needs"):
            contender.build()
    before = load_average()
    with broker(bootstrap_servers) as servers, tempfile.TemporaryDirectory() as directory, bars() as progress:
        workload = Workload(f"bench-input-{time.time_ns():x}", events, keys, partitioner)
        loading = progress.add_task("loading the input", total=events)
        expected = workload.load(servers, lambda done: progress.update(loading, completed=done))
        bench = Bench(servers, workload, expected, Path(directory), commit_interval_s, warm_up, limit_s)
        try:
            outcomes, failures = run_all(bench, chosen, rounds, progress)
        finally:
            delete_topics_of(servers, workload.topic)
    if outcomes:
        console.print(table(outcomes))
    if outcomes and save_results:
        settings: dict[str, object] = {
            "events": events, "keys": keys, "partitions": PARTITIONS, "partitioner": partitioner, "rounds": rounds,
            "peers_commit_interval_s": commit_interval_s, "warm_up": warm_up, "limit_s": limit_s,
        }  # fmt: skip
        saved = save(settings, outcomes, {"before": before, "after": load_average()})
        console.print(f"written: {saved.relative_to(BENCH.parent)}")
    if failures:
        raise RuntimeError("\n".join(failures))


if __name__ == "__main__":
    run_command(main)
