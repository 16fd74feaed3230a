"""Modules of the user's beside those of the standard library: theirs are found, and shadow nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SHOP, Run, environment, odradek
from tests.cli.workers import Serving

TAKEN = ["queue", "types", "email", "signal", "typing", "logging", "socket", "json", "selectors", "asyncio", "uuid", "secrets"]


@pytest.fixture
def shadows(folder: Path) -> Path:
    """A folder whose modules have the names of Python's own, and end whoever imports them."""
    for name in TAKEN:
        (folder / f"{name}.py").write_text("import os\nos.write(2, b'SHADOWED ' + __name__.encode())\nos._exit(99)\n")
    return folder


def script(*args: str, pythonpath: str = "") -> subprocess.CompletedProcess[str]:
    """The `odradek` command as it is installed."""
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [pythonpath, env["PYTHONPATH"]]))
    command = [str(Path(sys.executable).with_name("odradek")), *args]
    order = '{"customer": "b", "cents": 1}\n'
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120, input=order)


@pytest.mark.parametrize(("pythonpath", "kept"), [("", TAKEN), (".", ["queue", "email", "uuid", "signal"])])
def test_the_users_modules_shadow_nothing_in_a_command(shadows: Path, pythonpath: str, kept: list[str]) -> None:
    for name in set(TAKEN) - set(kept):  # what PYTHONPATH names goes first while the interpreter starts: nothing of ours runs then
        (shadows / f"{name}.py").unlink()
    done = script("publish", "orders", "-", "--app", "shop:app", "--create", pythonpath=pythonpath)
    assert (done.returncode, done.stderr.count("SHADOWED")) == (0, 0), done.stderr


@pytest.mark.parametrize("command", ["dev", "run"])
def test_the_users_modules_shadow_nothing_in_a_worker(run: Run, shadows: Path, command: str) -> None:
    (shadows / "shop.py").write_text("import helper\n" + SHOP)
    (shadows / "helper.py").write_text("import email, queue, types, uuid\nassert queue.Queue and types.FrameType\n")
    with Serving(command, "shop:app") as serving:
        serving.worker()
        assert run("call", "customer/bob/pay", "5").stdout == "5\n"
        assert serving.stop() == 0
    assert "SHADOWED" not in serving.said


def test_what_is_installed_gives_way_to_the_users_own(folder: Path) -> None:
    (folder / "execnet.py").write_text(SHOP)  # a name that site-packages may have
    done = script("publish", "orders", "-", "--app", "execnet:app", "--create")
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_taken_is_said_with_the_remedy(folder: Path) -> None:
    (folder / "queue.py").write_text(SHOP)
    (folder / "types.py").write_text("class Order: ...\n")
    (folder / "mine.py").write_text("from types import Order\n")
    said = "has the name of a module of Python's own, which goes before it: rename it"
    assert f"queue.py {said}" in odradek("run", "queue:app").stderr
    assert f"types.py {said}" in odradek("run", "mine:app").stderr
