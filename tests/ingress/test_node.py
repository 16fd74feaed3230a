"""A whole node on the embedded log: requests through the real engine, across a restart, and what is left afterwards."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from odradek import App, Context, ObjectContext, SharedContext, TerminalError
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.http.admin.client import RemoteLog
from odradek_runtime.http.ingress.sockets import PortError, listen, port_of
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.node.node import Node
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def make_bank() -> App:
    app = App("bank", shards=4)
    account = app.object("account")

    @account.handler
    async def deposit(ctx: ObjectContext, amount: int) -> int:
        if amount < 0:
            raise TerminalError("no debts", code=422, metadata={"amount": str(amount)})
        balance = ctx.get("balance", int, 0) + amount
        ctx.set("balance", balance)
        return balance

    @account.handler
    async def later(ctx: ObjectContext, seconds: float) -> str:
        await ctx.sleep(seconds)
        return "slept"

    @account.shared
    async def balance(ctx: SharedContext) -> int:
        return ctx.get("balance", int, 0)

    @app.handler
    async def reverse(ctx: Context, body: bytes) -> bytes:
        return body[::-1]

    assert all(callable(handler) for handler in (deposit, later, balance, reverse))
    return app


@contextmanager
def started(data_dir: Path) -> Generator[tuple[Node, httpx.Client]]:
    settings = replace(Settings(), data_dir=data_dir, port=0, admin_port=0, max_record_bytes=10_000)
    node = Node(make_bank(), settings, reference="bank:app")
    node.start()
    try:
        with httpx.Client(base_url=node.url, timeout=30, trust_env=False) as http:
            yield node, http
    finally:
        node.stop()


@pytest.fixture
def bank(tmp_path: Path) -> Generator[httpx.Client]:
    with started(tmp_path) as (_, http):
        yield http


def test_calls_sends_and_errors(bank: httpx.Client) -> None:
    assert bank.post("/account/bob/deposit", json=5).json() == 5
    assert bank.post("/account/bob/deposit", json=6).json() == 11
    assert bank.post("/account/al%2Fice/balance").json() == 0
    assert bank.post("/bank/reverse", content=b"\x00\xff").content == b"\xff\x00"
    failed = bank.post("/account/bob/deposit", json=-1)
    assert (failed.status_code, failed.json()) == (
        422,
        {"code": 422, "message": "no debts", "metadata": {"amount": "-1"}},
    )
    assert bank.post("/account/bob/deposit", json="x").json()["metadata"] == {"field": "$"}
    assert bank.post("/account/bob/withdraw").status_code == 404
    assert bank.post("/bank/reverse", content=b"x" * 10_001).status_code == 413
    sent = bank.post("/account/bob/deposit/send", json=4)
    assert (sent.status_code, sent.json()["status"]) == (202, "Accepted")
    assert bank.get(f"/odradek/invocations/{sent.json()['invocationId']}/attach").json() == 15
    assert bank.post("/account/bob/balance").json() == 15


def test_a_delayed_request_runs_when_it_is_due(bank: httpx.Client) -> None:
    headers = {"idempotency-key": "d"}
    began = time.monotonic()
    assert bank.post("/account/bob/deposit/send?delay=700ms", json=1, headers=headers).status_code == 202
    output = bank.get("/account/bob/deposit/output", headers=headers)
    if time.monotonic() - began < 0.7:
        assert (output.status_code, output.json()) == (202, {"status": "running"})
    assert bank.get("/account/bob/deposit/attach", headers=headers).json() == 1
    assert time.monotonic() - began >= 0.7


def test_one_idempotency_key_is_one_invocation_however_often_it_is_sent(bank: httpx.Client) -> None:
    def deposit(_: int) -> httpx.Response:
        return bank.post("/account/bob/deposit", json=5, headers={"idempotency-key": "once"})

    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(deposit, range(24)))
    assert {reply.json() for reply in replies} == {5}
    assert len({reply.headers["x-odradek-id"] for reply in replies}) == 1
    again = bank.post("/account/bob/deposit/send", json=5, headers={"idempotency-key": "once"})
    assert again.json()["status"] == "PreviouslyAccepted"
    assert bank.post("/account/bob/balance").json() == 5


def test_answers_and_sleepers_outlive_a_restart(tmp_path: Path) -> None:
    once, nap = {"idempotency-key": "once"}, {"idempotency-key": "nap"}
    with started(tmp_path) as (_, http):
        assert http.post("/account/bob/deposit", json=5, headers=once).json() == 5
        assert http.post("/account/eve/later/send", json=1.5, headers=nap).status_code == 202
        assert http.post("/account/zoe/deposit/send?delay=1s", json=3).status_code == 202
    with started(tmp_path) as (_, http):
        assert http.post("/account/bob/deposit", json=5, headers=once).json() == 5
        assert http.get("/account/bob/deposit/output", headers=once).json() == 5
        assert http.post("/account/bob/balance").json() == 5
        assert http.get("/account/eve/later/attach", headers=nap).json() == "slept"
        until(lambda: http.post("/account/zoe/balance").json() == 3)


def test_a_request_that_waits_when_the_node_stops_is_told_where_its_result_will_be(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as clients:
        with started(tmp_path) as (node, http):
            nap = {"idempotency-key": "nap"}

            def later(key: str, **how: Any) -> Future[httpx.Response]:
                url = f"{node.url}/account/{key}/later"
                return clients.submit(httpx.post, url, json=4.0, timeout=60, trust_env=False, **how)

            waiting, plain = later("bob", headers=nap), later("eve")
            until(lambda: http.get("/account/bob/later/output", headers=nap).status_code == 202)
            until(lambda: node.worker.snapshot().get("in_flight") == 2)
        repeatable, not_repeatable = waiting.result(), plain.result()
    assert (repeatable.status_code, repeatable.headers["retry-after"]) == (503, "1")
    assert (not_repeatable.status_code, "retry-after" in not_repeatable.headers) == (503, False)
    with started(tmp_path) as (_, http):
        for reply in (repeatable, not_repeatable):
            assert (reply.json()["metadata"]["exists"], "x-odradek-id" in reply.headers) == ("yes", True)
            assert http.get(reply.json()["metadata"]["attach"]).json() == "slept"


def test_a_stop_waits_for_what_is_short(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as clients:
        with started(tmp_path) as (node, _):
            url = f"{node.url}/account/bob/later"
            waiting = clients.submit(httpx.post, url, json=0.7, timeout=60, trust_env=False)
            until(lambda: node.worker.snapshot().get("in_flight") == 1)
        assert (waiting.result().status_code, waiting.result().json()) == (200, "slept")


def test_another_body_under_the_same_idempotency_key_is_a_conflict(bank: httpx.Client) -> None:
    once = {"idempotency-key": "once"}
    assert bank.post("/account/bob/deposit", json=5, headers=once).json() == 5
    for path in ("/account/bob/deposit", "/account/bob/deposit/send"):
        refused = bank.post(path, json=6, headers=once)
        assert (refused.status_code, refused.json()["code"]) == (409, 409)
    assert bank.get(refused.json()["metadata"]["attach"]).json() == 5
    assert bank.post("/account/bob/balance").json() == 5


def test_the_worker_file_is_there_while_the_node_runs(tmp_path: Path) -> None:
    path = tmp_path / "worker.json"
    with started(tmp_path) as (node, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written = json.loads(path.read_bytes())
        assert (written["pid"], written["name"], written["app"]) == (os.getpid(), "bank", "bank:app")
        assert (written["url"], written["admin_url"]) == (node.url, node.admin_url)
        log = RemoteLog(written["admin_url"], written["token"])
        assert "bank.commands" in log.topics()
        log.create_topic("notes", 1, {})
        log.publisher("p").publish([Output("notes", 0, None, b"n")], 1)
        assert log.offsets(Partition("notes", 0)) == (0, 1)
        log.close()
    assert not path.exists()
    threads = {thread.name for thread in threading.enumerate()}
    assert not {name for name in threads if name.startswith(("odradek-http", "odradek-engine"))}


def test_ready_and_metrics_speak_of_the_real_worker(tmp_path: Path) -> None:
    with started(tmp_path) as (node, http):
        until(lambda: httpx.get(node.admin_url + "/ready", trust_env=False).status_code == 200)
        assert http.post("/account/bob/deposit", json=5).json() == 5
        text = httpx.get(node.admin_url + "/metrics", trust_env=False).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["odradek_shards_owned"]) == 4
    assert float(values["odradek_epochs_total"]) >= 1
    assert float(values["odradek_commit_latency_seconds_count"]) == float(values["odradek_epochs_total"])


def test_a_port_in_use_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        node = Node(make_bank(), replace(Settings(), data_dir=tmp_path, port=port, admin_port=0))
        with pytest.raises(PortError, match=rf"HTTP port 127.0.0.1:{port}: the port is in use; choose another \(--port"):
            node.start()
    assert list(tmp_path.iterdir()) == []


def test_a_second_node_on_the_same_data_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path) as (_, http):
        before = (tmp_path / "worker.json").read_bytes()
        second = Node(make_bank(), replace(Settings(), data_dir=tmp_path, port=0, admin_port=0))
        with pytest.raises(LogError):
            second.start()
        assert (tmp_path / "worker.json").read_bytes() == before
        assert http.post("/account/bob/balance").json() == 0


def test_workers_of_one_machine_may_share_a_port() -> None:
    first = listen("127.0.0.1", 0, what="HTTP port", shared=True)
    second = listen("127.0.0.1", port_of(first), what="HTTP port", shared=True)
    with first, second:
        assert port_of(first) == port_of(second)
        with pytest.raises(PortError, match="in use"):
            listen("127.0.0.1", port_of(first), what="HTTP port")


def test_replies_are_not_delayed_by_nagle() -> None:
    """The loop sets TCP_NODELAY on what it accepts only when the listening socket names its protocol."""
    with listen("127.0.0.1", 0, what="HTTP port") as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(PortError, match=r"192.0.2.1:0: this machine has no such address"):
        listen("192.0.2.1", 0, what="HTTP port")
