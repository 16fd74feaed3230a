"""A request for another worker's shard reaches its owner, and finds the next when the shard moves or the owner dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from odradek_runtime.core.records.formats import COMMAND
from odradek_runtime.core.records.request import Invoke, Reply, Request
from odradek_runtime.http.ingress import wire
from odradek_runtime.log.port import Partition, Peer
from odradek_runtime.routing import fresh_id, shard_of
from tests.ingress.conftest import Site
from tests.ingress.scripted import ScriptedWorker

OpenSite = Callable[[ScriptedWorker], Site]
BOB = shard_of(b"bob", 4)


def say_who(name: str) -> Callable[[Request], Reply]:
    return lambda request: Reply("completed", request.invocation_id, f'"{name}"'.encode())


@pytest.fixture
def pair(open_site: OpenSite) -> tuple[Site, Site]:
    """The first owns nothing, the second everything, and the group knows it."""
    first = open_site(ScriptedWorker(owned=[], rule=say_who("first")))
    second = open_site(ScriptedWorker(rule=say_who("second")))
    tell([first, second])
    return first, second


def tell(sites: list[Site]) -> None:
    """Let every log answer what the engines own now."""
    members = [Peer(site.at.private_url, tuple(site.worker.owned)) for site in sites]
    for site in sites:
        site.log.members = members


def test_the_owner_answers_with_the_id_that_was_chosen_first(pair: tuple[Site, Site]) -> None:
    first, second = pair
    reply = first.http.post("/customer/bob/add", content=b"1", headers={"x-trace": "t", "idempotency-key": "k"})
    assert reply.json() == "second"
    assert first.worker.asked == []
    wanted = second.worker.invoked
    assert (wanted.key, wanted.payload, wanted.idempotent) == (b"bob", b"1", True)
    assert wanted.headers == {"x-trace": "t"}
    assert reply.headers["x-odradek-id"] == wanted.invocation_id


def test_bytes_survive_the_way_to_the_owner(pair: tuple[Site, Site]) -> None:
    first, second = pair
    second.worker.rule = lambda request: Reply("completed", request.invocation_id, bytes(range(256)))
    assert first.http.post("/shop/raw", content=b"\x00\xff").content == bytes(range(256))
    assert second.worker.invoked.payload == b"\x00\xff"


def test_a_stale_map_is_looked_up_again(pair: tuple[Site, Site], open_site: OpenSite) -> None:
    first, second = pair
    assert first.http.post("/customer/bob/add", content=b"1").json() == "second"
    third = open_site(ScriptedWorker(owned=[BOB], rule=say_who("third")))
    second.worker.owned.discard(BOB)
    tell([first, second, third])
    assert first.http.post("/customer/bob/add", content=b"1").json() == "third"


def test_a_peer_never_forwards(pair: tuple[Site, Site]) -> None:
    first, second = pair
    wanted = Invoke(fresh_id(b"bob", b"0" * 12), "customer/add", b"bob", b"1", {}, wait=True)
    answer = httpx.post(first.at.private_url + wire.ASK_PATH, content=wire.encode_request(wanted), headers=first.shown)
    assert wire.decode_reply(answer.content).status == "moved"
    assert second.worker.asked == []
    assert httpx.post(first.at.private_url + wire.ASK_PATH, content=b"nonsense", headers=first.shown).status_code == 400


def waiting_call(pair: tuple[Site, Site], clients: ThreadPoolExecutor) -> Future[httpx.Response]:
    first, second = pair
    second.worker.rule = lambda request: None
    call = clients.submit(first.http.post, "/customer/bob/add", content=b"1")
    second.worker.wait_for(1)
    return call


def test_a_waiting_request_follows_its_shard(pair: tuple[Site, Site]) -> None:
    first, second = pair
    with ThreadPoolExecutor(1) as clients:
        call = waiting_call(pair, clients)
        second.worker.owned.discard(BOB)
        first.worker.owned.add(BOB)
        tell([first, second])
        second.worker.release(lambda request: Reply("moved", request.invocation_id))
        assert call.result().json() == "first"
    assert first.worker.invoked == second.worker.invoked


def test_a_frozen_owner_is_left_when_its_shard_has_moved(pair: tuple[Site, Site]) -> None:
    """It keeps the connection open and says nothing: only the group knows."""
    first, second = pair
    with ThreadPoolExecutor(1) as clients:
        call = waiting_call(pair, clients)
        first.worker.owned.add(BOB)
        assert call.result().json() == "first"
    assert first.worker.invoked.invocation_id == second.worker.invoked.invocation_id


def test_a_dead_owner_is_replaced_while_the_client_waits(pair: tuple[Site, Site], open_site: OpenSite) -> None:
    first, second = pair
    with ThreadPoolExecutor(1) as clients:
        call = waiting_call(pair, clients)
        second.front.stop()
        third = open_site(ScriptedWorker(rule=say_who("third")))
        tell([first, third])
        assert call.result().json() == "third"
    assert third.worker.invoked.invocation_id == second.worker.invoked.invocation_id


def test_the_owner_may_have_too_many_requests(pair: tuple[Site, Site]) -> None:
    first, second = pair
    second.front.dispatcher.waiting = 4
    reply = first.http.post("/customer/bob/add", content=b"1")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")


def test_a_coordinator_out_of_reach_leaves_the_map_as_it_was(pair: tuple[Site, Site]) -> None:
    first, _ = pair
    assert first.http.post("/customer/bob/add", content=b"1").json() == "second"
    first.log.out_of_reach = True
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        assert first.http.post("/customer/bob/add", content=b"1").json() == "second"


def test_without_an_owner_the_client_is_told_in_bounded_time(open_site: OpenSite) -> None:
    site = open_site(ScriptedWorker(owned=[]))
    site.front.dispatcher.patience_s = 0.5
    reply = site.http.post("/customer/bob/add", content=b"1")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["message"] == f"shard {BOB} has no owner that answers; nothing was started; the request may be repeated"


def test_before_the_worker_knows_its_shards_requests_wait(open_site: OpenSite) -> None:
    site = open_site(ScriptedWorker(shards=0, owned=[]))
    with ThreadPoolExecutor(1) as clients:
        call = clients.submit(site.http.post, "/customer/bob/add", content=b"1")
        while not site.front.dispatcher.waiting:
            time.sleep(0.005)
        site.worker.owned = {0, 1, 2, 3}
        site.worker.shards = 4
        assert call.result().status_code == 200
    site.worker.shards = 0
    site.front.dispatcher.patience_s = 0.1
    reply = site.http.post("/customer/bob/add", content=b"1")
    assert reply.json()["message"].startswith("this worker is starting and does not know its shards yet; nothing was started")


def test_a_one_way_request_is_durable_without_an_owner(open_site: OpenSite) -> None:
    site = open_site(ScriptedWorker(owned=[]))
    site.log.create_topic("shop.commands", 4, {})

    def send(n: int) -> httpx.Response:
        return site.http.post("/customer/bob/add/send?delay=1h", content=b"1", headers={"x-n": str(n)})

    with ThreadPoolExecutor(4) as clients:
        replies = list(clients.map(send, range(4)))
    assert [(reply.status_code, reply.json()["status"]) for reply in replies] == [(202, "Accepted")] * 4
    written = [m for batch in site.log.scan(Partition("shop.commands", BOB), 0, 4) for m in batch]
    commands = {command.id: command for command in (COMMAND.decode(m.value() or b"") for m in written)}
    for n, reply in enumerate(replies):
        command = commands[reply.json()["invocationId"]]
        assert (command.kind, command.target, command.key, command.payload) == ("invoke", "customer/add", b"bob", b"1")
        assert (command.at_ms > time.time() * 1000, command.idempotent) == (True, True)
        assert [(h.name, h.value) for h in command.headers] == [("x-n", str(n).encode())]


def test_a_one_way_request_is_refused_when_even_the_log_does_not_take_it(open_site: OpenSite) -> None:
    site = open_site(ScriptedWorker(owned=[]))
    reply = site.http.post("/customer/bob/add/send", content=b"1")
    assert (reply.status_code, reply.json()["metadata"]["exists"]) == (503, "unknown")
    assert reply.json()["message"].startswith("the shard has no owner, and the log does not take the request: ")
