"""What is said at the end: a table of medians, the same for a page in Markdown, and every figure in a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.table import Table

from bench.contenders import BENCH
from bench.report import machine
from bench.waits.contenders import CONTENDERS
from bench.waits.figure import SCENARIOS, Figure, Median, medians

TO = "restate"
"""Whom the ratios are to, where it takes part; else Kafka Streams."""
ELSE_TO = "streams"
HEADINGS = ("p50 ms", "p99 ms", "a second", "lowest … highest", "CPU µs", "ratio")


@dataclass(slots=True)
class Result:
    """One run of the benchmark, as it is stored."""

    what: str
    at: str
    machine: dict[str, object]
    settings: dict[str, object]
    figures: list[Figure]
    left_out: list[str] = field(default_factory=list[str])


def rows(figures: Sequence[Figure]) -> list[tuple[Median, tuple[str, ...]]]:
    """A row for each scenario and contender, in the order of both tables; the columns are `HEADINGS`."""
    found = medians(figures)
    ordered = [found[at] for scenario in SCENARIOS for name in CONTENDERS if (at := (scenario, name)) in found]
    return [(median, _cells(median, found)) for median in ordered]


def _cells(median: Median, found: dict[tuple[str, str], Median]) -> tuple[str, ...]:
    rate = SCENARIOS[median.scenario].main == "per_s"
    other = found.get((median.scenario, TO), found.get((median.scenario, ELSE_TO)))
    spread = (f"{median.lowest:,.0f} … {median.highest:,.0f}") if rate else f"{median.lowest:.1f} … {median.highest:.1f}"
    return (
        _ms(median.p50_ms), _ms(median.p99_ms), f"{median.per_s:,.0f}" if median.per_s >= 10 else f"{median.per_s:.1f}", spread,
        f"{median.cpu_us:,.0f}", f"{median.main / other.main:.2f}" if other is not None and other.main else "",
    )  # fmt: skip


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def table(figures: Sequence[Figure]) -> Table:
    """Medians of the rounds; of `lowest … highest` and `ratio` the scenario's main figure is the subject."""
    shown = Table(title="what waits: medians of the rounds, ratios to Restate (else Kafka Streams) in this run")
    shown.add_column("scenario")
    shown.add_column("contender")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right")
    before = ""
    for median, cells in rows(figures):
        if before and median.scenario != before:
            shown.add_section()
        title = SCENARIOS[median.scenario].title if median.scenario != before else ""
        shown.add_row(title, CONTENDERS[median.contender].title, *_bold_main(median, cells))
        before = median.scenario
    return shown


def markdown(figures: Sequence[Figure]) -> str:
    """The table for a page."""
    lines = [f"| scenario | contender | {' | '.join(HEADINGS)} |", f"|---|---|{'---:|' * len(HEADINGS)}"]
    before = ""
    for median, cells in rows(figures):
        title = SCENARIOS[median.scenario].title if median.scenario != before else ""
        shown = [cell.replace("[b]", "**").replace("[/b]", "**") for cell in _bold_main(median, cells)]
        lines.append(f"| {title} | {CONTENDERS[median.contender].title} | {' | '.join(shown)} |")
        before = median.scenario
    return "\n".join(lines)


def _bold_main(median: Median, cells: tuple[str, ...]) -> list[str]:
    main = 2 if SCENARIOS[median.scenario].main == "per_s" else 0
    return [f"[b]{cell}[/b]" if number == main else cell for number, cell in enumerate(cells)]


def save(
    settings: dict[str, object], figures: list[Figure], left_out: list[str], loads: dict[str, list[float]],
    folder: Path = BENCH / "results",
) -> Path:  # fmt: skip
    """Write every figure and what it was made of; returns the file."""
    now = datetime.now(UTC)
    result = Result(
        "waiting work: odradek on Kafka and on the embedded log, Restate, DBOS, Kafka Streams",
        f"{now:%Y-%m-%dT%H:%M:%SZ}", {**machine(), "load_average": loads}, settings, figures, left_out,
    )  # fmt: skip
    path = folder / f"waits-{now:%Y%m%d-%H%M%S}.json"
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return path


def load(path: Path) -> Result:
    """Read a file that `save` has written.

    Raises:
        ValueError: it is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except (msgspec.DecodeError, OSError) as unreadable:
        raise ValueError(f"{path} is no result of bench.waits: {unreadable}") from unreadable
