"""Two nodes on real Kafka: whoever is asked, the owner answers, and a request that waits survives its owner's leaving."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest

from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.configuration.worker_file import read_worker_file
from odradek_runtime.http.admin.client import RemoteLog
from odradek_runtime.http.admin.wire import Controlled
from odradek_runtime.log.port import LogError
from odradek_runtime.node.node import Node
from odradek_runtime.routing import shard_of
from odradek_runtime.worker.upkeep.sightings import JournalSeen, Roll
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

KEYS = [f"account-{n}" for n in range(12)]


def make_bank(name: str) -> App:
    app = App(name, shards=4)
    account = app.object("account")

    @account.handler
    async def deposit(ctx: ObjectContext, amount: int) -> int:
        balance = ctx.get("balance", int, 0) + amount
        ctx.set("balance", balance)
        return balance

    @account.handler
    async def later(ctx: ObjectContext, seconds: float) -> str:
        await ctx.sleep(seconds)
        return "slept"

    assert callable(deposit)
    assert callable(later)
    return app


@dataclass
class Running:
    node: Node
    http: httpx.Client
    settings: Settings


@contextmanager
def started(name: str, settings: Settings) -> Generator[Running]:
    node = Node(make_bank(name), settings)
    node.start()
    try:
        with httpx.Client(base_url=node.url, timeout=60, trust_env=False) as http:
            yield Running(node, http, settings)
    finally:
        node.stop()


def owned(running: Running) -> set[int]:
    return set(running.node.worker.snapshot().get("shards_owned", ()))


@pytest.fixture
def pair(kafka: str, topic_prefix: str, tmp_path: Path) -> Generator[tuple[Running, Running]]:
    """Two nodes with two shards each, both restored."""
    settings = replace(Settings(), bootstrap_servers=kafka, port=0, admin_port=0)
    name = topic_prefix.rstrip(".-_")
    with ExitStack() as stack:
        first, second = (stack.enter_context(started(name, replace(settings, data_dir=tmp_path / folder))) for folder in ("a", "b"))
        until(lambda: owned(first) | owned(second) == {0, 1, 2, 3} and len(owned(first)) == 2 == len(owned(second)))
        until(lambda: first.node.worker.ready and second.node.worker.ready)
        yield first, second


def test_either_node_answers_for_every_key(pair: tuple[Running, Running]) -> None:
    for round_ in range(1, 5):
        for key in KEYS:
            node = pair[round_ % 2]
            reply = node.http.post(f"/account/{key}/deposit", json=10)
            assert (reply.status_code, reply.json()) == (200, 10 * round_), key


def test_a_request_that_waits_survives_its_owners_leaving(pair: tuple[Running, Running]) -> None:
    first, second = pair
    away = next(key for key in KEYS if shard_of(key.encode(), 4) in owned(second))
    headers = {"idempotency-key": "nap"}
    with ThreadPoolExecutor(2) as clients:
        here = clients.submit(first.http.post, f"/account/{away}/later", json=3.0, headers=headers)
        there = clients.submit(second.http.post, f"/account/{away}/later", json=3.0, headers=headers)
        until(lambda: first.http.get(f"/account/{away}/later/output", headers=headers).status_code == 202)
        second.node.stop()
        assert here.result().json() == "slept"
        followed = there.result()
    # Who was connected to the node that left followed to the next owner within its grace.
    assert (followed.status_code, followed.json()) == (200, "slept")
    assert first.http.post(f"/account/{away}/later", json=3.0, headers=headers).json() == "slept"
    for key in KEYS:
        assert first.http.post(f"/account/{key}/deposit", json=1).json() == 1


def admin(running: Running) -> RemoteLog:
    found = read_worker_file(running.settings.data_dir)
    assert found is not None
    return RemoteLog(found.admin_url, found.token)


def test_either_node_tells_of_every_invocation(pair: tuple[Running, Running]) -> None:
    ids = {pair[0].http.post(f"/account/{key}/later/send", json=600).json()["invocationId"] for key in KEYS}
    for running in pair:
        remote = admin(running)

        def roll(remote: RemoteLog = remote) -> Roll:
            return remote.ask("GET", "/invocations", Roll)

        until(lambda roll=roll: [each.status for each in roll().invocations] == ["suspended"] * len(ids))
        told = roll()
        assert {each.id for each in told.invocations} == ids
        assert told.unknown_shards == []
        assert {each.shard for each in told.invocations} == {0, 1, 2, 3}
        for id_ in ids:
            seen = remote.ask("GET", f"/invocations/{id_}/journal", JournalSeen)
            assert (seen.invocation.id, [each.kind for each in seen.entries]) == (id_, ["sleep"])
        remote.close()


def test_either_node_takes_orders_for_every_invocation(pair: tuple[Running, Running]) -> None:
    ids = [pair[0].http.post(f"/account/{key}/later/send", json=600).json()["invocationId"] for key in KEYS]
    remotes = [admin(running) for running in pair]
    until(lambda: len(remotes[0].ask("GET", "/invocations", Roll).invocations) == len(ids))
    for number, id_ in enumerate(ids):
        body = {"asked_by": "ann@desk", "order": f"k{number}"}
        told = remotes[number % 2].ask("POST", f"/invocations/{id_}/kill", Controlled, body)
        assert (told.order, told.new, told.ordered) == (f"k{number}", True, [id_])
    until(lambda: remotes[0].ask("GET", "/invocations", Roll).invocations == [])
    for number, key in enumerate(KEYS):
        reply = pair[number % 2].http.post(f"/account/{key}/deposit", json=10)
        assert (reply.status_code, reply.json()) == (200, 10), "its key is free"
        reply = pair[number % 2].http.get(f"/odradek/invocations/{ids[number]}/attach")
        assert (reply.status_code, reply.json()["message"]) == (409, "account/later was killed")
    with pytest.raises(LogError, match="it has ended"):
        remotes[1].ask("POST", f"/invocations/{ids[0]}/kill", Controlled)
    for remote in remotes:
        remote.close()
