"""Where a request's time goes: odradek under load and a sampling profiler, in microseconds a request.

    python -m bench.waits.profile --help

Beside the profiler's tables (`bench.profile`) it says how many epochs a request took, and how long their commits did: with
one connection that is most of what is waited for.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from bench.contenders import Run, end_on_sigterm
from bench.processes import busiest
from bench.profile import build_py_spy, sample, show
from bench.throughput import broker, console
from bench.waits.events import sum_in
from bench.waits.figure import SCENARIOS, Figure
from bench.waits.odradek import Odradek
from bench.waits.requests import measure_requests
from bench.waits.site import Site, Work, until
from bench.workload import delete_topics_of

WARM = 20
"""The profiler begins when so many invocations have been started."""
REQUESTS = [name for name, scenario in SCENARIOS.items() if scenario.work is Work.HTTP]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a worker's metrics say at one moment."""

    invocations: int
    epochs: int
    commits_s: float

    @classmethod
    def of(cls, site: Site) -> "Reading":
        said = httpx.get(f"http://127.0.0.1:{site.admin_port}/metrics", timeout=20, trust_env=False).text
        return cls(
            round(sum_in(said, "odradek_invocations_started_total{")), round(sum_in(said, "odradek_epochs_total ")),
            sum_in(said, "odradek_commit_latency_seconds_sum "),
        )  # fmt: skip


def watch(site: Site, scenario: str, seconds: int, rate_hz: int, top: int, raw: Path, *, all_threads: bool) -> Figure:
    """Put a worker under load, and watch it meanwhile.

    Raises:
        RuntimeError: the load found something wrong, or the profiler failed.
    """
    with ThreadPoolExecutor(1) as beside:
        load = beside.submit(measure_requests, site, "odradek", SCENARIOS[scenario], 1, seconds + 8, 1)
        until(lambda: load.done() or Reading.of(site).invocations >= WARM, "the first invocations", site)
        before = Reading.of(site)
        profile = sample(
            busiest(site.processes[0].pid), lambda: Reading.of(site).invocations, seconds, rate_hz, raw, all_threads=all_threads
        )
        after = Reading.of(site)
        figure = load.result()
    show(profile, top)
    epochs, invocations = after.epochs - before.epochs, after.invocations - before.invocations
    commit_ms = (after.commits_s - before.commits_s) / max(epochs, 1) * 1000
    console.print(
        f"{invocations / max(epochs, 1):.2f} invocations an epoch, {commit_ms:.2f} ms a commit; "
        f"p50 {figure.p50_ms} ms, p99 {figure.p99_ms} ms, {figure.per_s:,.0f}/s, {figure.cpu_us:,.0f} µs of processor time"
    )
    return figure


def main(
    scenario: Annotated[str, typer.Option(help=f"One of {', '.join(REQUESTS)}.")] = "steps-32",
    embedded: Annotated[bool, typer.Option("--embedded", help="On the embedded log instead of Kafka.")] = False,
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
    """Show where a request's time goes in a worker."""
    if scenario not in REQUESTS:
        raise typer.BadParameter(f"{scenario}: choose from {', '.join(REQUESTS)}", param_hint="--scenario")
    build_py_spy()
    contender = Odradek(kafka=not embedded)
    with broker("" if embedded else bootstrap_servers) as servers, tempfile.TemporaryDirectory() as directory:
        run = Run(f"bench-profile-{time.time_ns():x}", servers, "none", Path(directory), 0.1)
        try:
            with contender.serving(run, Work.HTTP) as site:
                raw = Path(directory) / "samples.txt"
                watch(site, scenario, duration_s, rate_hz, top, raw, all_threads=all_threads)
        finally:
            if not embedded:
                delete_topics_of(servers, run.id)


if __name__ == "__main__":
    end_on_sigterm()
    try:
        typer.run(main)
    except RuntimeError as failed:
        console.print(str(failed), style="red", markup=False)
        sys.exit(1)
