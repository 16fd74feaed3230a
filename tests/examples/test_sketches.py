"""The typed programs of tests/typing run unchanged as well, over HTTP, on the embedded log: what they promise comes true.

The approval's reminders of days, in short: `tests/ingress/test_workflows.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.docs.page import Command
from tests.docs.session import Session
from tests.examples.running import Running, until

if TYPE_CHECKING:
    from collections.abc import Generator

PROGRAMS = Path(__file__).parents[1] / "typing" / "programs"


@contextmanager
def program(name: str, folder: Path, before: str = "true") -> Generator[Running]:
    """`odradek dev NAME:app` in a folder of its own, after a command that fills a topic."""
    shutil.copy(PROGRAMS / f"{name}.py", folder)
    with Session(folder) as shell, httpx.Client(base_url=shell.url, timeout=60, trust_env=False) as http:
        shell.do(Command(0, before, "...", repeat=False))
        shell.do(Command(0, f"odradek dev {name}:app", "", repeat=False))
        yield Running(shell, http)


def test_approval(tmp_path: Path) -> None:
    with program("approval", tmp_path) as running:
        assert running.post("/approval/r2/run/send", {"who": "bob", "amount": 10, "approver": "eve"})["status"] == "Accepted"
        assert running.post("/approval/r2/reminded") == 0
        running.kill()
        running.post("/approval/r2/decide", True)
        assert running.http.get("/odradek/workflows/approval/r2/attach").json() == "granted"


def test_fanout(tmp_path: Path) -> None:
    urls = [f"{n}.png" for n in range(100)]
    with program("fanout", tmp_path) as running:
        assert running.post("/img/album", urls) == urls
        assert running.post("/img/two", urls[:2]) == urls[:2]


def test_ratelimit(tmp_path: Path) -> None:
    with program("ratelimit", tmp_path) as running:
        began_s = time.monotonic()
        assert running.post("/crm/sync_all", ["bob"] * 5 + ["ann"]) is None
        assert running.post("/limited/bob/call", {}) == 200, "the sixth of bob's, in line behind the other five"
        assert time.monotonic() - began_s >= 5 * 0.2 - 0.05, "five times 200 ms, by a clock of milliseconds"


def test_enrich(tmp_path: Path) -> None:
    flight = {"tail": "N1", "origin": "JFK", "dest": "BOS", "delay": 4}
    rows = [flight, {"tail": "N1", "origin": 1}, {**flight, "dest": "JFK"}, {**flight, "delay": 3}]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    publish = "odradek publish departures rows.jsonl --key tail --create"  # no app runs yet that would refuse the second
    with program("enrich", tmp_path, publish) as running:
        totals = ((4, 1, 4, 0), (3, 2, 7, 3))
        came = [
            {"flight": {**flight, "delay": delay}, "legs": legs, "total_delay": total, "offset": at}
            for delay, legs, total, at in totals
        ]
        enriched = "".join(f"{json.dumps(each, separators=(',', ':'))}\n" for each in came)
        running.run("odradek consume enriched", enriched)
        running.run("odradek consume departures-bad | wc -l", "2")
        running.run("odradek consume flights.state --key", '{"key":"aircraft/N1/totals","value":{"legs":2,"delay":7}}')


def test_readme(tmp_path: Path) -> None:
    with program("readme", tmp_path) as running:
        running.run("""echo '{"id": "1", "amount": 40, "who": "bob"}' | odradek publish orders - --format jsonl --key who""", "...")
        running.run("odradek consume invoices --key", '{"key":"bob","value":{"id":""}}')
        running.run("odradek consume shop.state --key", '{"key":"customer/bob/spent","value":40}')
        running.run("odradek ps --status scheduled --handler thank", "ID...\ninv_...customer/thank...bob...scheduled...")
        until(lambda: running.post("/customer/bob/thank", "2") is None, "what comes in meanwhile")
