"""The benchmark of what waits: odradek on both logs beside Restate, DBOS and Kafka Streams, in one run.

    python -m bench.waits --help

Installs the peers into folders of their own, then measures every scenario with every contender, round by round, prints
medians and ratios, and writes them to bench/results/ and, on request, as a plot. See docs/bench.md.
"""

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.command import BootstrapServers, console, run_command
from bench.contenders import BENCH
from bench.report import load_average
from bench.throughput import broker
from bench.waits.contenders import CONTENDERS, OURS, PEERS
from bench.waits.events import Events, backlog_of
from bench.waits.figure import SCENARIOS, Figure, Scenario
from bench.waits.plot import plot
from bench.waits.report import load, markdown, save, table
from bench.waits.rounds import Lengths, Rounds
from bench.waits.site import Contender, Unavailable, Work
from bench.workload import delete_topics_of

FULL = Lengths(seconds=4, warm_up_s=1.5, paced_s=9, in_flight_s=6, events=200_000, events_limit_s=15)
QUICK = Lengths(seconds=1, warm_up_s=0.5, paced_s=3, in_flight_s=2, events=20_000, events_limit_s=5)

HELP = f"""
Measure what somebody waits for: requests to an object and to three steps over HTTP, a fan-out, events with a step each (a
thousand in flight, or a backlog), and the time from a produced record to its output. Every contender does the same in turn, in
each round; the table shows medians.

Scenarios: {", ".join(SCENARIOS)}.

A peer that cannot be had on this machine is told and left out. Restate's server comes by npm, DBOS and Restate's SDK by pip,
Kafka Streams by Maven, each into a folder of its own; PostgreSQL for DBOS must be installed. A full run of five rounds takes
about an hour and a half, --quick eight minutes.

Examples:

make bench-waits ARGS=--quick

make bench-waits ARGS="--peers= --only odradek,odradek-idempotent --scenarios in-flight --rounds 1 --seconds 3 --no-save"

make bench-waits ARGS="--peers restate --scenarios object-1,steps-1 --rounds 3"

python -m bench.waits --show bench/results/waits-….json --plot docs/bench-waits.svg
"""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender is measured; 1 with --quick.")] = 5,
    peers: Annotated[str, typer.Option(help="Comma-separated, of " + ", ".join(PEERS) + "; empty: none.")] = ",".join(PEERS),
    only: Annotated[str, typer.Option(help="Comma-separated, of " + ", ".join(OURS) + ".")] = ",".join(OURS),
    scenarios: Annotated[str, typer.Option(help="Comma-separated; see above.")] = ",".join(SCENARIOS),
    seconds: Annotated[float | None, typer.Option(min=0.5, help="How long each measurement lasts, the backlog's excepted.")] = None,
    events: Annotated[int | None, typer.Option(min=1_000, help="How many events a backlog has.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: shows that all works, not how quick it is.")] = False,
    bootstrap_servers: BootstrapServers = None,
    save_results: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/waits-*.json.")] = True,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write the plot there, as SVG.")] = None,
    show: Annotated[Path | None, typer.Option(help="Measure nothing: show this result, as a table and in Markdown.")] = None,
) -> None:
    if show is not None:
        shown(load(show).figures, plot_file)
        console.print(markdown(load(show).figures), markup=False, soft_wrap=True)
        return
    lengths = QUICK if quick else FULL
    if seconds is not None:
        lengths = replace(lengths, seconds=seconds, paced_s=seconds, in_flight_s=seconds)
    if events is not None:
        lengths = replace(lengths, events=events)
    wanted = [SCENARIOS[name] for name in names(scenarios, SCENARIOS, "--scenarios")]
    ours = names(only, [name for name in CONTENDERS if name not in PEERS], "--only")
    chosen, left_out = built([CONTENDERS[name] for name in [*ours, *names(peers, PEERS, "--peers")]], wanted)
    before = load_average()
    figures, failures = measured(chosen, wanted, lengths, 1 if quick else rounds, bootstrap_servers)
    if figures:
        shown(figures, plot_file)
        if save_results:
            settings: dict[str, object] = {
                "rounds": 1 if quick else rounds, "seconds": lengths.seconds, "warm_up_s": lengths.warm_up_s,
                "paced_s": lengths.paced_s, "in_flight_s": lengths.in_flight_s,
                "events": lengths.events, "events_limit_s": lengths.events_limit_s,
            }  # fmt: skip
            saved = save(settings, figures, left_out + failures, {"before": before, "after": load_average()})
            console.print(f"written: {saved.relative_to(BENCH.parent)}")
    for each in left_out:
        console.print(each, style="yellow", markup=False)
    if failures:
        raise RuntimeError("\n".join(failures))


main.__doc__ = HELP


def names(given: str, known: "list[str] | tuple[str, ...] | dict[str, Scenario]", option: str) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        typer.BadParameter: one of them is unknown.
    """
    found = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in found if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(known)}", param_hint=option)
    return found


def built(contenders: list[Contender], scenarios: list[Scenario]) -> tuple[list[Contender], list[str]]:
    """Those that can be had, and why the others cannot."""
    works = {scenario.work for scenario in scenarios}
    there: list[Contender] = []
    left_out: list[str] = []
    for contender in contenders:
        if not works & contender.works:
            continue
        with console.status(f"installing or building what {contender.title} needs"):
            try:
                contender.build()
            except Unavailable as missing:
                left_out.append(f"left out: {contender.title}: {missing}")
                console.print(left_out[-1], style="yellow", markup=False)
            else:
                there.append(contender)
    return there, left_out


def measured(
    contenders: list[Contender], scenarios: list[Scenario], lengths: Lengths, rounds: int, given: str | None
) -> tuple[list[Figure], list[str]]:
    """Start a broker unless there is one, load the events, run all rounds; the figures and what failed."""
    with broker(given) as servers, tempfile.TemporaryDirectory(prefix="bench-waits-") as directory, bars() as progress:
        backlogs: dict[str, Events] = {}
        try:
            for scenario in scenarios:
                if scenario.work is Work.EVENTS:
                    backlogs[scenario.name] = loaded(scenario, servers, lengths, progress)
            all_rounds = Rounds(servers, Path(directory), contenders, scenarios, lengths, backlogs)
            turns = sum(len(all_rounds.turns(number)) for number in range(1, rounds + 1))
            task = progress.add_task("", total=turns)
            return all_rounds.run(rounds, partial(_say, progress, task), partial(progress.advance, task))
        finally:
            for events in backlogs.values():
                delete_topics_of(servers, events.workload.topic)


def loaded(scenario: Scenario, servers: str, lengths: Lengths, progress: Progress) -> Events:
    """Write the events of a backlog."""
    loading = progress.add_task(f"loading the {scenario.name}", total=lengths.events)
    told = partial(_loaded, progress, loading)
    events = backlog_of(scenario, servers, lengths.events, lengths.events_limit_s, told)
    progress.remove_task(loading)
    return events


def _loaded(progress: Progress, loading: TaskID, done: int) -> None:
    progress.update(loading, completed=done)


def _say(progress: Progress, task: TaskID, what: str) -> None:
    progress.update(task, description=what)
    if not console.is_terminal:  # where no bar can move, a line says where it is
        console.print(f"{time.strftime('%H:%M:%S')} {what}", markup=False)


def bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<70}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip


def shown(figures: list[Figure], plot_file: Path | None) -> None:
    console.print(table(figures))
    if plot_file is not None:
        plot_file.write_text(plot(figures))
        console.print(f"drawn: {plot_file}")


if __name__ == "__main__":
    run_command(main)
