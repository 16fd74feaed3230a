"""`odradek ps` and `odradek show` beside a running worker: tables, filters, JSON, a timeline, and what they say of nonsense."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import Run, command, environment
from tests.cli.workers import Serving, until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

DESK = """
from odradek import App, ObjectContext, RetryPolicy

app = App("desk", shards=2)
ticket = app.object("ticket")

@ticket.handler
async def remind(ctx: ObjectContext) -> str:
    await ctx.sleep(7200)
    return "reminded"

@ticket.handler
async def solve(ctx: ObjectContext) -> str:
    number = await ctx.run(int, "7", name="number")
    return await ctx.call("ticket/remind", key=f"{ctx.key}-{number}", returns=str)

@ticket.handler(retry=RetryPolicy(max_attempts=1), on_exhausted="pause")
async def close(ctx: ObjectContext) -> None:
    raise ValueError("who knows")
"""


@pytest.fixture
def desk(run: Run, folder: Path) -> Generator[Serving]:
    (folder / "desk.py").write_text(DESK)
    with Serving("dev", "desk:app", "--no-reload") as serving:
        serving.worker()
        yield serving


def call(run: Run, path: str) -> str:
    told = run("call", path, "--send")
    return str(re.findall(r"inv_[a-z2-7]{26}", told.output)[0])


def listed(run: Run, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("ps", "--json", *args).stdout)
    return found


def rows(text: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in text.splitlines()[1:]]


@pytest.mark.usefixtures("desk")
def test_what_waits_is_listed_and_filtered(run: Run) -> None:
    sleeper = call(run, "ticket/bob/remind")
    paused = call(run, "ticket/ann/close")
    waiting = call(run, "ticket/bob/remind")
    until(lambda: {each["status"] for each in listed(run)} == {"suspended", "paused", "inboxed"}, "three states")

    shown = {row[0]: row for row in rows(run("ps").stdout)}
    assert set(shown) == {sleeper, paused, waiting}
    assert shown[sleeper][1:4] == ["ticket/remind", "bob", "suspended"]
    assert "sleep, 1 h more" in shown[sleeper]
    assert f"its key, held by {sleeper}" in shown[waiting]
    assert "odradek resume (exhausted)" in shown[paused]
    assert "gave up after 1 attempts: ValueError" in shown[paused][-1]

    assert [each["id"] for each in listed(run, "--status", "paused")] == [paused]
    assert {each["id"] for each in listed(run, "--service", "ticket", "--key", "bob")} == {sleeper, waiting}
    assert [each["id"] for each in listed(run, "--handler", "close")] == [paused]
    assert run("ps", "-q", "--handler", "close").stdout == f"{paused}\n"
    assert listed(run, "--older", "1h") == []
    assert len(listed(run, "--younger", "1h")) == 3
    told = run("ps", "--limit", "1")
    assert len(rows(told.stdout)) == 1
    assert "the oldest 1 of 3 invocations" in told.stderr
    assert "no such invocations" in run("ps", "--key", "nobody").stdout


@pytest.mark.usefixtures("desk")
def test_one_is_shown_with_its_timeline_its_caller_and_its_callees(run: Run) -> None:
    parent = call(run, "ticket/bob/solve")
    until(lambda: len(listed(run)) == 2, "caller and callee")
    child = next(each["id"] for each in listed(run) if each["id"] != parent)

    told = run("show", parent).stdout
    assert f"ticket/solve 'bob'  {parent}  suspended" in told
    assert f"waits for call ticket/remind ({child})" in told
    assert re.search(r"^ *0  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC  step number +\d\.\d{3} s  7 *$", told, re.MULTILINE)
    assert re.search(rf"has called\n  {child}  #1 call ticket/remind  ticket/remind suspended", told)
    told = run("show", child).stdout
    assert re.search(rf"called by\n  {parent}  ticket/solve suspended", told)
    assert re.search(r"sleep +until \d{4}-", told)

    entries = json.loads(run("show", parent, "--json").stdout)["entries"]
    assert [(each["kind"], each.get("ended", False)) for each in entries] == [("step", True), ("call", False)]


def _interrupted(process: subprocess.Popen[str]) -> bool:
    """Ctrl-C, and whether it has ended: Python forgets one that comes while it frees an object, so a user presses again."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(3)
    return process.poll() is not None


@pytest.mark.usefixtures("desk")
def test_a_watch_goes_on_until_it_is_stopped(run: Run) -> None:
    call(run, "ticket/bob/remind")
    until(lambda: listed(run), "one")
    with subprocess.Popen(
        command(["ps", "--watch", "--every", "0.1"]), env=environment(), stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        seen = [watching.stdout.readline() for _ in range(6)]
        try:
            until(lambda: _interrupted(watching), "its end")
        finally:
            watching.kill()
        assert watching.wait() == 130
    assert sum("ticket/remind" in line for line in seen) == 3


@pytest.mark.usefixtures("desk")
def test_nonsense_is_told_with_a_way_out(run: Run) -> None:
    assert "one of running, suspended" in run("ps", "--status", "asleep", ok=False).stderr
    assert "e.g. --older 90s" in run("ps", "--older", "soon", ok=False).stderr
    assert "is not an invocation id" in run("show", "bob", ok=False).stderr
    assert "it has ended and nothing of it is kept" in run("show", "inv_aaaaaaaaaaaaaaaaaaaaaaaaaa", ok=False).stderr


def test_without_a_worker_it_says_so(run: Run) -> None:
    assert "no worker runs in .odradek" in run("ps", ok=False).stderr
