"""What a benchmark says at its end: a table of medians and ratios, and the same with every run in a file."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

from bench.contenders import BENCH, CONTENDERS


@dataclass(frozen=True, slots=True)
class Outcome:
    """One audited run of one contender; `cpu_us_per_event` is its processor time while it was measured."""

    contender: str
    round: int
    events_per_s: float
    measured_records: int
    measured_s: float
    commits_seen: int
    records: int
    complete: bool
    cpu_us_per_event: float
    events_per_s_by_fifth: list[float]


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
    }


def load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


def medians(outcomes: list[Outcome]) -> dict[str, float]:
    names = dict.fromkeys(each.contender for each in outcomes)
    return {name: statistics.median(each.events_per_s for each in outcomes if each.contender == name) for name in names}


def ratios(rates: dict[str, float], to: str) -> dict[str, float]:
    return {name: round(rate / rates[to], 3) for name, rate in rates.items()} if to in rates else {}


def table(outcomes: list[Outcome]) -> Table:
    """Medians of the rounds, best first."""
    rates = medians(outcomes)
    to_streams, to_bare = ratios(rates, "streams-1"), ratios(rates, "bare")
    shown = Table(title="keyed stateful events, exactly once, one worker: medians of the rounds, ratios in this run")
    shown.add_column("contender")
    for heading in ("events/s", "lowest … highest", "to Streams", "to bare loop", "CPU µs/event", "by fifths, k/s"):
        shown.add_column(heading, justify="right")
    for name, median in sorted(rates.items(), key=lambda item: -item[1]):
        own = [each for each in outcomes if each.contender == name]
        fifths = [statistics.median(rate) for rate in zip(*(each.events_per_s_by_fifth for each in own), strict=True)]
        shown.add_row(
            CONTENDERS[name].title,
            f"{median:,.0f}",
            f"{min(each.events_per_s for each in own):,.0f} … {max(each.events_per_s for each in own):,.0f}",
            f"{to_streams[name]:.2f}" if to_streams else "",
            f"{to_bare[name]:.2f}" if to_bare else "",
            f"{statistics.median(each.cpu_us_per_event for each in own):.1f}",
            " ".join(f"{rate / 1000:.0f}" for rate in fifths),
        )
    return shown


def save(settings: dict[str, object], outcomes: list[Outcome], loads: dict[str, list[float]]) -> Path:
    """Write the runs and what they were made of; returns the file."""
    now = datetime.now(UTC)
    path = BENCH / "results" / f"throughput-{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    rates = medians(outcomes)
    document = {
        "what": "keyed stateful events, Kafka, exactly once, one worker",
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "machine": {**machine(), "load_average": loads},
        "settings": settings,
        "median_events_per_s": rates,
        "ratio_to_kafka_streams": ratios(rates, "streams-1"),
        "ratio_to_bare_loop": ratios(rates, "bare"),
        "runs": [asdict(each) for each in outcomes],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
