"""Where the time goes of what waits: odradek under load and a sampling profiler, in microseconds a request or a record.

    python -m bench.waits.profile --help

Beside the profiler's tables (`bench.profiler`) it says how many epochs an invocation took, and how long their commits did: with
one connection that is most of what is waited for.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer

from bench.command import BootstrapServers, console, run_command
from bench.contenders import Run
from bench.processes import busiest
from bench.profiler import AllThreads, DurationS, Look, RateHz, Rows, build_py_spy, sample, show
from bench.throughput import broker
from bench.waits.events import OUTPUTS, Events, backlog_of, sum_in
from bench.waits.figure import SCENARIOS, Figure, Scenario
from bench.waits.odradek import Odradek
from bench.waits.records_in_flight import measure_in_flight
from bench.waits.requests import measure_requests
from bench.waits.site import Site, Work, until
from bench.workload import create_topic, delete_topics_of

WARM = {Work.HTTP: 20, Work.IN_FLIGHT: 3_000, Work.EVENTS: 3_000}
"""The profiler begins when so much has been done."""
DONE = {Work.HTTP: "odradek_invocations_started_total{", Work.IN_FLIGHT: f"{OUTPUTS} ", Work.EVENTS: f"{OUTPUTS} "}
"""What counts as done: of records what has been committed, for a backlog is taken in long before."""
WARM_UP_S = 1.0
BESIDE_S = 8
"""The load runs for so much longer than the profiler watches, which takes its time to start."""
WATCHED = [name for name, scenario in SCENARIOS.items() if scenario.work in WARM]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a worker's metrics say at one moment."""

    done: int
    epochs: int
    commits_s: float

    @classmethod
    def of(cls, site: Site, work: Work) -> "Reading":
        said = httpx.get(f"http://127.0.0.1:{site.admin_port}/metrics", timeout=20, trust_env=False).text
        return cls(
            round(sum_in(said, DONE[work])), round(sum_in(said, "odradek_epochs_total ")),
            sum_in(said, "odradek_commit_latency_seconds_sum "),
        )  # fmt: skip


BACKLOG = 200_000


def measure(site: Site, run: Run, contender: Odradek, scenario: Scenario, events: Events | None, seconds: float) -> Figure:
    """Put a worker under load, or watch it work off a backlog. Raises RuntimeError when something is wrong."""
    if events is not None:
        return replace(events, limit_s=seconds).on_kafka(site, run, contender.name, 1, counted=True)
    if scenario.work is Work.HTTP:
        return measure_requests(site, contender.name, scenario, 1, seconds, WARM_UP_S)
    (figure,) = measure_in_flight(site, run, contender, [scenario], 1, seconds, WARM_UP_S)
    return figure


def watch(site: Site, load: "partial[Figure]", work: Work, look: Look, top: int, raw: Path) -> None:
    """Watch a worker under that load, and tell what was seen.

    Raises:
        RuntimeError: the load found something wrong, or the profiler failed.
    """
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(load)
        until(lambda: loading.done() or Reading.of(site, work).done >= WARM[work], "the first that is done", site)
        before = Reading.of(site, work)
        profile = sample(busiest(site.processes[0].pid), lambda: Reading.of(site, work).done, look, raw)
        after = Reading.of(site, work)
        figure = loading.result()
    show(profile, top)
    epochs, done = after.epochs - before.epochs, after.done - before.done
    commit_ms = (after.commits_s - before.commits_s) / max(epochs, 1) * 1000
    waited = "" if figure.p50_ms is None else f"p50 {figure.p50_ms} ms, p99 {figure.p99_ms} ms, "
    console.print(
        f"{done / max(epochs, 1):.2f} done in an epoch, {commit_ms:.2f} ms a commit; {waited}"
        f"{figure.per_s:,.0f}/s, {figure.cpu_us:,.0f} µs of processor time"
    )


def main(
    scenario: Annotated[str, typer.Option(help=f"One of {', '.join(WATCHED)}.")] = "steps-32",
    embedded: Annotated[bool, typer.Option("--embedded", help="On the embedded log instead of Kafka: requests only.")] = False,
    idempotent: Annotated[bool, typer.Option("--idempotent", help="Its steps may run once too often: they start at once.")] = False,
    duration_s: DurationS = 6,
    rate_hz: RateHz = 250,
    top: Rows = 20,
    all_threads: AllThreads = False,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Show where the time of a request or a record goes in a worker."""
    if scenario not in WATCHED:
        raise typer.BadParameter(f"{scenario}: choose from {', '.join(WATCHED)}", param_hint="--scenario")
    build_py_spy()
    chosen, contender = SCENARIOS[scenario], Odradek(kafka=not embedded, idempotent=idempotent)
    if embedded and chosen.work is not Work.HTTP:
        raise typer.BadParameter(f"{scenario} is watched on Kafka alone", param_hint="--embedded")
    with broker("" if embedded else bootstrap_servers) as servers, tempfile.TemporaryDirectory() as directory:
        run_id = f"bench-profile-{time.time_ns():x}"
        events = backlog_of(chosen, servers, BACKLOG, 0, lambda _: None) if chosen.work is Work.EVENTS else None
        run = Run(run_id, servers, events.workload.topic if events else f"{run_id}-input", Path(directory), 0.1)
        try:
            for topic in [] if embedded else [run.output] if events else [run.input, run.output]:
                create_topic(servers, topic)
            with contender.serving(run, chosen.work) as site:
                load = partial(measure, site, run, contender, chosen, events, duration_s + BESIDE_S)
                look = Look(duration_s, rate_hz, all_threads)
                watch(site, load, chosen.work, look, top, Path(directory) / "samples.txt")
        finally:
            if not embedded:
                delete_topics_of(servers, run.id)
            if events is not None:
                delete_topics_of(servers, run.input)


if __name__ == "__main__":
    run_command(main)
