"""Whoever gets no result is told whether the invocation exists, and where its result will be."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from odradek_runtime.core.records.request import Reply, Request
from odradek_runtime.log.port import Peer
from odradek_runtime.routing import request_id, shard_of
from tests.ingress.conftest import Site, until
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    OpenSite = Callable[[ScriptedWorker], Site]

NO_REPLY: Callable[[Request], Reply | None] = lambda request: None  # noqa: E731


@pytest.fixture
def clients() -> Generator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def waiting(site: Site, clients: ThreadPoolExecutor, worker: ScriptedWorker, **how: Any) -> Future[httpx.Response]:
    """A call that an engine has taken and not answered."""
    before = len(worker.asked)
    call = clients.submit(site.http.post, "/customer/bob/add", content=b"1", **how)
    worker.wait_for(before + 1)
    return call


def check_exists(reply: httpx.Response, site: Site, code: int = 503) -> str:
    """It says that the invocation exists, which and where; the text is given."""
    body = reply.json()
    id_ = reply.headers["x-odradek-id"]
    assert reply.status_code == code
    assert body["metadata"] == {"invocationId": id_, "attach": f"/odradek/invocations/{id_}/attach", "exists": "yes"}
    assert f"the invocation {id_} has been accepted and goes on: GET /odradek/invocations/{id_}/attach" in body["message"]
    return str(body["message"])


def test_a_worker_that_leaves_says_what_it_has_accepted(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    site = open_site(ScriptedWorker(rule=NO_REPLY))
    plain = waiting(site, clients, site.worker)
    keyed = waiting(site, clients, site.worker, headers={"idempotency-key": "k"})
    site.worker.accept()
    site.front.leave()
    said = check_exists(plain.result(), site)
    assert "without an idempotency-key, repeating the request starts a second one" in said
    assert "retry-after" not in plain.result().headers, "which a client would take for an invitation"
    said = check_exists(keyed.result(), site)
    assert "the request may be repeated as it is" in said
    assert keyed.result().headers["retry-after"] == "1"
    assert keyed.result().headers["x-odradek-id"] == request_id("customer/add", b"bob", "k")


def test_what_is_open_is_said_to_be_open(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    """The engine has it, and nobody knows whether its epoch was committed."""
    site = open_site(ScriptedWorker(rule=NO_REPLY))
    call = waiting(site, clients, site.worker)
    one_way = clients.submit(site.http.post, "/customer/bob/add/send", content=b"1")
    site.worker.wait_for(2)
    site.front.leave()
    for reply in (call.result(), one_way.result()):
        id_ = reply.headers["x-odradek-id"]
        assert (reply.status_code, reply.json()["metadata"]["exists"]) == (503, "unknown")
        assert f"whether the invocation {id_} has been accepted is not known" in reply.json()["message"]
        assert "repeating the request may start a second one" in reply.json()["message"]
        assert "retry-after" not in reply.headers


def test_what_was_never_accepted_has_no_id(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    site = open_site(ScriptedWorker(owned=[]))
    call = clients.submit(site.http.post, "/customer/bob/add", content=b"1")
    until(lambda: site.front.dispatcher.waiting == 1)
    site.front.leave()
    reply = call.result()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "x-odradek-id" not in reply.headers
    assert reply.json()["metadata"] == {}


def test_an_engine_that_surely_did_nothing_leaves_no_doubt(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    site = open_site(ScriptedWorker(rule=lambda request: Reply("moved", request.invocation_id)))
    call = waiting(site, clients, site.worker)
    site.front.leave()
    assert "x-odradek-id" not in call.result().headers
    other = open_site(ScriptedWorker(rule=lambda request: Reply("moved", request.invocation_id, doubtful=True)))
    call = waiting(other, clients, other.worker)
    other.front.leave()
    assert call.result().json()["metadata"]["exists"] == "unknown"


def pair_of(open_site: OpenSite) -> tuple[Site, Site]:
    """The first owns nothing, the second everything."""
    first, second = open_site(ScriptedWorker(owned=[])), open_site(ScriptedWorker(rule=NO_REPLY))
    first.log.members = second.log.members = [Peer(second.at.private_url, (0, 1, 2, 3))]
    return first, second


def test_an_owner_elsewhere_says_at_once_that_it_has_accepted(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    first, second = pair_of(open_site)
    call = waiting(first, clients, second.worker)
    second.worker.accept()
    second.worker.release(lambda request: Reply("moved", request.invocation_id))
    second.worker.owned.clear()
    until(lambda: first.front.dispatcher.waiting == 1)
    first.front.leave()
    check_exists(call.result(), first)


def test_an_owner_elsewhere_that_falls_silent_leaves_it_open(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    first, second = pair_of(open_site)
    call = waiting(first, clients, second.worker)
    first.front.leave()
    assert call.result().json()["metadata"]["exists"] == "unknown"
    second.worker.release(lambda request: Reply("completed", request.invocation_id, b"1"))


def test_an_answer_after_the_acceptance_comes_whole(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    first, second = pair_of(open_site)
    call = waiting(first, clients, second.worker, headers={"idempotency-key": "k"})
    second.worker.accept()
    until(lambda: second.front.dispatcher.waiting == 1)
    second.worker.release(lambda request: Reply("completed", request.invocation_id, b"A" * 300_000))
    assert call.result().content == b"A" * 300_000


def test_what_is_accepted_is_asked_for_though_this_worker_has_failed(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    """Its next owner answers: the client of a worker that dies need not even know."""
    first, second = open_site(ScriptedWorker(rule=NO_REPLY)), open_site(ScriptedWorker(owned=[]))
    call = waiting(first, clients, first.worker)
    first.worker.accept()
    first.worker.failed = RuntimeError("disk full")
    first.worker.release(lambda request: Reply("moved", request.invocation_id))
    first.worker.owned.clear()
    second.worker.owned = {0, 1, 2, 3}
    first.log.members = [Peer(second.at.private_url, (0, 1, 2, 3))]
    assert (call.result().status_code, call.result().json()) == (200, 1)
    refused = first.http.post("/customer/bob/add", content=b"1")
    assert (refused.status_code, "x-odradek-id" in refused.headers) == (503, False)


def test_a_stop_waits_for_what_is_short(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    """The worker goes on working while its front says no to what is new."""
    site = open_site(ScriptedWorker(rule=NO_REPLY))
    call = waiting(site, clients, site.worker)
    began = time.monotonic()
    leaving = clients.submit(site.front.leave)
    until(lambda: not listening(site))
    assert not leaving.done()
    site.worker.release(lambda request: Reply("completed", request.invocation_id, b"5"))
    leaving.result()
    assert (call.result().status_code, call.result().json()) == (200, 5)
    assert time.monotonic() - began < 2.0


def test_while_the_log_is_away_nobody_waits(site: Site, clients: ThreadPoolExecutor) -> None:
    site.worker.rule = NO_REPLY
    accepted = waiting(site, clients, site.worker)
    site.worker.accept()
    site.worker.log_trouble = "Kafka at h:1 cannot be reached"
    said = check_exists(accepted.result(), site)
    assert said.startswith("Kafka at h:1 cannot be reached; the invocation ")
    for path in ("/customer/bob/add", "/customer/bob/add/send"):
        refused = site.http.post(path, content=b"1")
        assert (refused.status_code, "x-odradek-id" in refused.headers, refused.headers["retry-after"]) == (503, False, "5")
        assert refused.json()["message"].startswith("Kafka at h:1 cannot be reached; nothing was started")
    site.worker.log_trouble = ""
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"1")
    assert site.http.post("/customer/bob/add", content=b"1").json() == 1


def test_nobody_waits_for_a_shard_that_cannot_be_restored(site: Site, clients: ThreadPoolExecutor) -> None:
    site.worker.rule = NO_REPLY
    accepted = waiting(site, clients, site.worker)
    site.worker.accept()
    stuck = shard_of(b"bob", 4)
    site.worker.stuck[stuck] = "shard 0 has waited 9 s to be restored: Kafka has not answered"
    assert check_exists(accepted.result(), site).startswith("shard 0 has waited 9 s to be restored")
    refused = site.http.post("/customer/bob/add", content=b"1")
    assert (refused.status_code, "x-odradek-id" in refused.headers) == (503, False)
    other = next(key for key in "abcdef" if shard_of(key.encode(), 4) != stuck)
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"1")
    assert site.http.post(f"/customer/{other}/add", content=b"1").json() == 1


def test_nobody_waits_for_a_shard_that_cannot_be_restored_elsewhere(open_site: OpenSite, clients: ThreadPoolExecutor) -> None:
    first, second = pair_of(open_site)
    call = waiting(first, clients, second.worker)
    keyed = waiting(first, clients, second.worker, headers={"idempotency-key": "k"})
    second.worker.stuck = dict.fromkeys(range(4), "the shard has waited 9 s to be restored")
    for one in (call, keyed):
        assert one.result().status_code == 503
        assert one.result().json()["message"].startswith("the shard has waited 9 s to be restored; whether the invocation ")
        assert one.result().json()["metadata"]["exists"] == "unknown"
    refused = first.http.post("/customer/bob/add", content=b"1")
    assert (refused.status_code, "x-odradek-id" in refused.headers) == (503, False)


def listening(site: Site) -> bool:
    try:
        return httpx.get(site.at.url + "/odradek/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_the_same_key_with_another_body_is_a_conflict(site: Site) -> None:
    site.worker.rule = lambda request: Reply("other_body", request.invocation_id)
    reply = site.http.post("/customer/bob/add", content=b"2", headers={"idempotency-key": "k"})
    id_ = request_id("customer/add", b"bob", "k")
    assert (reply.status_code, reply.headers["x-odradek-id"]) == (409, id_)
    assert f"the idempotency key has started {id_} with another body" in reply.json()["message"]
    assert reply.json()["metadata"] == {"invocationId": id_, "attach": f"/odradek/invocations/{id_}/attach"}


def test_requests_that_wait_share_a_question_only_if_their_bodies_are_the_same(site: Site, clients: ThreadPoolExecutor) -> None:
    site.worker.rule = NO_REPLY
    key = {"idempotency-key": "k"}
    first = waiting(site, clients, site.worker, headers=key)
    other = clients.submit(site.http.post, "/customer/bob/add", content=b"2", headers=key)
    site.worker.wait_for(2)
    assert len({getattr(request, "payload", None) for request in site.worker.asked}) == 2
    site.worker.release(lambda request: Reply("completed", request.invocation_id, b"1"))
    assert [first.result().status_code, other.result().status_code] == [200, 200]
