"""A folder of its own for each test, commands in this process and in others, and a little app to run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from odradek_runtime.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., Result]

SHOP = """
from dataclasses import dataclass

from odradek import App, ObjectContext, SharedContext, State, TerminalError

@dataclass
class Order:
    customer: str
    cents: int
    note: str | None = None

@dataclass
class Invoice:
    customer: str
    cents: int

app = App("shop")
orders = app.topic("orders", value=Order)
invoices = app.topic("invoices", value=Invoice)
customer = app.object("customer")
spent = State("spent", int, default=0)

@customer.on(orders)
async def ordered(ctx: ObjectContext, order: Order) -> None:
    ctx.set(spent, ctx.get(spent) + order.cents)
    ctx.publish(invoices, Invoice(order.customer, order.cents), key=ctx.key)

@customer.shared
async def total(ctx: SharedContext) -> int:
    return ctx.get(spent)

@customer.handler
async def pay(ctx: ObjectContext, cents: int) -> int:
    if cents < 0:
        raise TerminalError("cents must not be negative", code=422, metadata={"cents": str(cents)})
    ctx.set(spent, ctx.get(spent) + cents)
    return ctx.get(spent)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """The current folder of the test, with shop.py in it; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in os.environ if name.startswith("ODRADEK_")]:
        monkeypatch.delenv(name)
    (tmp_path / "shop.py").write_text(SHOP)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def run(folder: Path) -> Run:
    """Run a command in this process; with `ok=False` it must fail."""

    def invoke(*args: str, ok: bool = True, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(cli, list(args), input=stdin, prog_name="odradek")
        assert (result.exit_code == 0) is ok, f"exit code {result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    return invoke


@pytest.fixture
def ctrl_c() -> Generator[None]:
    """What is started from here hears Ctrl-C, also where the tests themselves run in the background and were told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def environment() -> dict[str, str]:
    """Of a subprocess: the packages that this process sees, none of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODRADEK_")}
    paths = [str(ROOT / part) for part in ("sdk", "runtime", "connectors", ".")]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def command(args: Sequence[str]) -> list[str]:
    """`odradek ...` as a subprocess of this interpreter."""
    return [sys.executable, "-P", "-m", "odradek_runtime.cli", *args]


def odradek(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in the current folder."""
    return subprocess.run(command(args), env=environment(), capture_output=True, text=True, check=False, timeout=120)
