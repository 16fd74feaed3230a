"""Where the time goes: a contender under a sampling profiler, in microseconds per event.

    python -m bench.profile --help

Runs the same work as bench.throughput, and watches it meanwhile (`bench.profiler`).
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from bench.command import BootstrapServers, run_command
from bench.contenders import CONTENDERS, Run, fresh_run, running
from bench.measure import StableOffsets
from bench.processes import busiest
from bench.profiler import AllThreads, DurationS, Look, Profile, RateHz, Rows, build_py_spy, sample, show
from bench.throughput import START_TIMEOUT_S, bars, broker
from bench.workload import Workload, create_topic, delete_topics_of

PEERS_IN_PYTHON = ("odradek", "bare", "quix")


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


def profile_run(run: Run, contender: str, warm_up: int, look: Look) -> Profile:
    create_topic(run.bootstrap_servers, run.output)
    offsets = StableOffsets(run.bootstrap_servers, run.output)
    with running(CONTENDERS[contender], run) as process:
        offsets.start()
        try:
            wait_for_output(offsets, warm_up)
            raw = run.directory / "samples.txt"
            return sample(busiest(process.pid), lambda: offsets.total, look, raw)
        except RuntimeError as failed:
            raise RuntimeError(f"{failed}\n{process.said()}") from failed
        finally:
            offsets.stop()
            delete_topics_of(run.bootstrap_servers, run.id)


def main(
    events: Annotated[int, typer.Option(help="Events in the input topic.")] = 1_000_000,
    keys: Annotated[int, typer.Option(help="Distinct keys.")] = 10_000,
    contender: Annotated[str, typer.Option(help=f"One of {', '.join(PEERS_IN_PYTHON)}.")] = "odradek",
    duration_s: DurationS = 6,
    rate_hz: RateHz = 250,
    top: Rows = 20,
    all_threads: AllThreads = False,
    bootstrap_servers: BootstrapServers = None,
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
            profile = profile_run(run, contender, events // 10, Look(duration_s, rate_hz, all_threads))
        finally:
            delete_topics_of(servers, workload.topic)
    show(profile, top)


if __name__ == "__main__":
    run_command(main)
