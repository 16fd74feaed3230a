"""`python -m examples.demo` on the first departures of the year: killed midway, and equal; and an auditor that can tell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo_audit import Found, differences
from examples.demo_data import Aircraft, Truth
from tests.cli.conftest import ROOT, environment

FLIGHTS = 20_000


def test_killed_midway_the_totals_are_those_of_the_file(tmp_path: Path) -> None:
    # Small epochs and hundreds of them: the kill falls between commits, and in time on a busy machine, too.
    command = [sys.executable, "-m", "examples.demo", "--flights", str(FLIGHTS), "--folder", str(tmp_path / "demo")]
    environ = {**environment(), "ODRADEK_EPOCH_EVENTS": "10"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9" in done.stdout
    assert "equal:" in done.stdout
    assert f"= {FLIGHTS:,}" in done.stdout


def test_the_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    command = [sys.executable, "-m", "examples.demo", "--flights", "10", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "holds something that is not the demo's" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def _equal() -> tuple[Truth, Found]:
    truth, found = Truth(rows=3, dead_letters=1), Found(dead_letters=1)
    for side in (truth, found):
        side.aircraft["N1"] = Aircraft(flights=2, minutes_late=7, rebooked=1)
        side.outputs.update(["a", "b"])
    truth.cancelled.add("b")
    found.tickets["b"] = "t1"
    return truth, found


def _lost(found: Found) -> None:
    del found.outputs["a"]


def _twice(found: Found) -> None:
    found.outputs["a"] += 1


def _minutes(found: Found) -> None:
    found.aircraft["N1"].minutes_late += 1


def _step_again(found: Found) -> None:
    found.aircraft["N1"].rebooked += 1


def _aircraft(found: Found) -> None:
    found.aircraft["N2"] = Aircraft(flights=1)


def _no_ticket(found: Found) -> None:
    found.tickets.clear()


def _dead_letter(found: Found) -> None:
    found.dead_letters += 1


@pytest.mark.parametrize("damage", [_lost, _twice, _minutes, _step_again, _aircraft, _no_ticket, _dead_letter])
def test_the_auditor_sees_every_difference(damage: Callable[[Found], None]) -> None:
    truth, found = _equal()
    assert differences(truth, found) == []
    damage(found)
    assert len(differences(truth, found)) == 1
