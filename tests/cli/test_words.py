"""Whatever is wrong round a command, it says so in a line or two: never a stack trace, unless it is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

ODRADEK = str(Path(sys.executable).with_name("odradek"))


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    line = re.sub(r"(?<![./])\bodradek ", f"{ODRADEK} ", line)
    given = {**environment(), **env}
    return subprocess.run(["bash", "-c", line], env=given, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def topic(folder: Path) -> Path:
    shell("echo 1 | odradek publish t - --create")
    return folder


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("odradek topics > /dev/full", "No space left on device"),
        ("odradek consume t > /dev/full", "No space left on device"),
        ("mkdir gone; cd gone; rmdir ../gone; odradek topics", "the current folder cannot be used"),
        ("mkdir gone; cd gone; rmdir ../gone; odradek run shop:app", "the current folder cannot be used"),
        ("odradek consume $'\\xff'", "does not exist"),
        ("echo 1 | odradek publish $'\\xff' - --create", "is not UTF-8 text"),
        ("odradek publish t $'\\xff.csv'", "does not exist"),
        ("odradek call customer/bob/total - <&-", "the argument is not JSON"),
        ("odradek run shop:app --host 999.1.1.1", "no such host"),
        ("ODRADEK_PORT=-5 odradek run shop:app", "ports are 0 to 65535"),
        ("ODRADEK_PORT=70000 odradek run shop:app", "ports are 0 to 65535"),
        ("echo '{' > .odradek/worker.json; odradek topics", "worker.json cannot be read"),
        ("rm .odradek/log/db/CURRENT; touch .odradek/log/db/CURRENT; odradek topics", "embedded log in .odradek/log is damaged"),
    ],
)
@pytest.mark.usefixtures("topic")
def test_a_command_that_cannot_go_on_says_why(line: str, said: str) -> None:
    done = shell(line)
    assert done.returncode not in (0, 70)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.parametrize(
    "line",
    [
        "odradek topics | true",
        "odradek topics >&-",
        "odradek consume t | true",
        "odradek consume t --format raw >&-",
        "odradek publish t - <&-",
        "odradek topics 2>&-",
    ],
)
@pytest.mark.usefixtures("topic")
def test_streams_that_lead_nowhere_are_no_errors(line: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("topic")
def test_the_stack_trace_is_there_for_whoever_asks() -> None:
    assert "Traceback" in shell("odradek topics --debug > /dev/full").stderr
    assert "Traceback" in shell("odradek topics > /dev/full", ODRADEK_DEBUG="1").stderr
    assert "Traceback" not in shell("odradek topics > /dev/full", ODRADEK_DEBUG="0").stderr
    assert os.access(ODRADEK, os.X_OK)
