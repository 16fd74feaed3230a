"""Calls that wait while the process that has accepted them is killed or reloads: what their clients are told, and what was done."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.routing import shard_of
from tests.cli.workers import Serving, until
from tests.faults.workers import count

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

SHARDS = 4
BANK = f"""
import asyncio
import os
from pathlib import Path

from odradek import App, ObjectContext, State

NAME = os.environ.get("BANK", "bank")
app = App(NAME, shards={SHARDS})
paid = app.topic(f"{{NAME}}-paid", value=str)
account = app.object("account")
payments = State("payments", int, default=0)

async def told() -> str:
    with Path("told").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    return "told"

@account.handler
async def pay(ctx: ObjectContext) -> int:
    ctx.set(payments, ctx.get(payments) + 1)
    ctx.publish(paid, ctx.key, key=ctx.key)
    await ctx.run(told)
    return ctx.get(payments)

@account.handler
async def made(ctx: ObjectContext) -> int:
    return ctx.get(payments)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test, with the app in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank.py").write_text(BANK)
    return tmp_path


def runs(folder: Path) -> list[int]:
    """The processes that have begun the step for whose end the calls wait, run by run."""
    told = folder / "told"
    return [int(pid) for pid in told.read_text().split()] if told.exists() else []


def shards(worker: dict[str, Any]) -> list[int]:
    """What the worker owns and has restored."""
    answer = httpx.get(worker["admin_url"] + "/ready", trust_env=False)
    return list(answer.json()["shards"]) if answer.is_success else []


def follow(http: httpx.Client, call: Future[httpx.Response], *, told: bool = False) -> tuple[str, int]:
    """The invocation's id and its result: what the client was given, or where its error says (`told`: it was one)."""
    reply = call.result()
    id_ = reply.headers["x-odradek-id"]
    if reply.status_code == 200 and not told:
        return id_, reply.json()
    assert reply.status_code == 503, reply.text
    found = reply.json()["metadata"]
    assert found["exists"] in ("yes", "unknown")
    assert found["invocationId"] == id_
    attached = http.get(found["attach"])
    assert (attached.status_code, attached.headers["x-odradek-id"]) == (200, id_)
    return id_, attached.json()


def test_a_call_survives_the_kill_of_the_owner_that_it_was_forwarded_to(folder: Path, kafka: str, topic_prefix: str) -> None:
    settings = Settings(bootstrap_servers=kafka)
    log = open_log(settings)
    log.create_topic(f"{topic_prefix}-paid", 1, {})
    flags = ("run", "bank:app", "-b", kafka, "--data-dir")
    first, second = (Serving(*flags, name, data_dir=folder / name / "worker-0", env={"BANK": topic_prefix}) for name in "ab")
    with first, second, httpx.Client(timeout=120, trust_env=False) as http, ThreadPoolExecutor(2) as clients:
        here, there = first.worker(), second.worker()
        until(lambda: [len(shards(here)), len(shards(there))] == [SHARDS // 2] * 2, "two shards at each worker")
        theirs = shards(there)
        plain, keyed = [key for key in map(str, range(100)) if shard_of(key.encode(), SHARDS) in theirs][:2]
        http.base_url = here["url"]
        once = {"idempotency-key": "once"}
        calls = [
            clients.submit(http.post, f"/account/{plain}/pay"),
            clients.submit(http.post, f"/account/{keyed}/pay", headers=once),
        ]
        until(lambda: len(runs(folder)) == 2, "both calls to wait")
        known = until(lambda: _output(http, f"/account/{keyed}/pay/output", once), "the call to be known")

        assert runs(folder) == [there["pid"]] * 2
        os.killpg(second.process.pid, signal.SIGKILL)
        until(lambda: runs(folder)[2:] == [here["pid"]] * 2, "the next owner to take them up")
        (folder / "gate").touch()

        ids, results = zip(*(follow(http, call) for call in calls), strict=True)
        assert results == (1, 1)
        assert ids[1] == known
        assert http.post(f"/account/{keyed}/pay", headers=once).headers["x-odradek-id"] == known
        assert [http.post(f"/account/{key}/made").json() for key in (plain, keyed)] == [1, 1]
        assert first.stop() == 0
    assert count(log, f"{topic_prefix}-paid") == 2
    log.close()


def _output(http: httpx.Client, path: str, headers: dict[str, str]) -> str:
    """The id of the invocation, once it is known to wait."""
    reply = http.get(path, headers=headers)
    return reply.headers["x-odradek-id"] if reply.status_code == 202 else ""


def test_a_call_that_waits_while_dev_reloads_is_told_where_its_result_will_be(folder: Path) -> None:
    serving, http = Serving("dev", "bank:app"), httpx.Client(timeout=120, trust_env=False)
    with serving, http, ThreadPoolExecutor(1) as clients:
        before = serving.worker()
        call = clients.submit(http.post, before["url"] + "/account/bob/pay")
        until(lambda: runs(folder) == [before["pid"]], "the call to wait")
        (folder / "bank.py").write_text(BANK + "\n# saved\n")
        reply = call.result()
        assert "bank.py changed: restarting" in serving.said
        assert "repeating the request starts a second one" in reply.json()["message"]
        assert "retry-after" not in reply.headers
        http.base_url = serving.worker(other_than=before["pid"])["url"]
        (folder / "gate").touch()
        assert follow(http, call, told=True)[1] == 1
        assert http.post("/account/bob/made").json() == 1
        assert serving.stop() == 0
