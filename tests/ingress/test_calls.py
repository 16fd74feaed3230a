"""What the public port does with good requests: the handler meant, its payload, its id, its answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from odradek_runtime.core.records.request import Attach, Failure, Invoke, Reply
from odradek_runtime.routing import id_hash, request_id, shard_of
from tests.ingress.conftest import running, until
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from tests.ingress.conftest import Site


def test_a_call_is_answered_with_the_result_and_the_id(site: Site) -> None:
    reply = site.http.post("/shop/pay", json={"id": "o1", "amount": 5})
    assert (reply.status_code, reply.json()) == (200, {"id": "o1", "amount": 5})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-odradek-id"] == site.worker.invoked.invocation_id
    assert site.worker.invoked.target == "shop/pay"
    assert (site.worker.invoked.wait, site.worker.invoked.idempotent) == (True, False)


def test_a_key_may_hold_anything_that_is_escaped(site: Site) -> None:
    assert site.http.post("/customer/a%2Fb%20%C3%BC%FF/add", content=b"3").status_code == 200
    assert site.worker.invoked.key == b"a/b \xc3\xbc\xff"
    assert id_hash(site.worker.invoked.invocation_id) % 4 == shard_of(b"a/b \xc3\xbc\xff", 4)
    assert site.http.post("/customer/%0Aa%0Ab%0A/add", content=b"3").status_code == 200
    assert site.worker.invoked.key == b"\na\nb\n"


def test_bytes_go_in_and_out_as_they_are(site: Site) -> None:
    reply = site.http.post("/shop/raw", content=b"\x00\xff", headers={"content-type": "image/png"})
    assert (reply.content, reply.headers["content-type"]) == (b"\x00\xff", "application/octet-stream")


def test_a_handler_without_argument_takes_an_empty_body(site: Site) -> None:
    assert site.http.post("/shop/ping").status_code == 200
    assert site.http.post("/shop/ping", content=b"null").status_code == 200


def test_one_way(site: Site) -> None:
    reply = site.http.post("/shop/ping/send")
    wanted = site.worker.invoked
    assert (reply.status_code, reply.json()) == (202, {"invocationId": wanted.invocation_id, "status": "Accepted"})
    assert (wanted.wait, wanted.at_ms) == (False, 0)
    site.worker.rule = lambda request: Reply("previously_accepted", request.invocation_id)
    assert site.http.post("/shop/ping/send").json()["status"] == "PreviouslyAccepted"


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("30s", 30),
        ("1500ms", 1.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("7", 7),
        ("1.5", 1.5),
        ("PT1M30S", 90),
        ("P1DT1H", 90000),
    ],
)
def test_a_delay(site: Site, delay: str, seconds: float) -> None:
    before_ms = time.time() * 1000
    assert site.http.post(f"/shop/ping/send?delay={delay}").status_code == 202
    after_ms = time.time() * 1000
    assert before_ms - 1 <= site.worker.invoked.at_ms - seconds * 1000 <= after_ms


def test_the_idempotency_key_makes_the_id(site: Site) -> None:
    first = site.http.post("/customer/bob/add", content=b"1", headers={"idempotency-key": "k1"})
    again = site.http.post("/customer/bob/add/send", content=b"1", headers={"idempotency-key": "k1"})
    other = site.http.post("/customer/bob/add", content=b"1", headers={"idempotency-key": "k2"})
    assert first.headers["x-odradek-id"] == again.headers["x-odradek-id"] == request_id("customer/add", b"bob", "k1")
    assert other.headers["x-odradek-id"] != first.headers["x-odradek-id"]
    assert site.worker.invoked.idempotent


def test_attach_and_output_find_the_invocation(site: Site) -> None:
    wanted = request_id("customer/add", b"bob", "k1")
    site.worker.rule = lambda request: Reply("running", request.invocation_id)
    running = site.http.get("/customer/bob/add/output", headers={"idempotency-key": "k1"})
    assert (running.status_code, running.json()) == (202, {"status": "running"})
    assert site.worker.asked[-1] == Attach(wanted, wait=False)
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"17")
    done = site.http.get("/customer/bob/add/attach", headers={"idempotency-key": "k1"})
    assert (done.status_code, done.json(), done.headers["x-odradek-id"]) == (200, 17, wanted)
    assert site.worker.asked[-1] == Attach(wanted, wait=True)


def test_an_invocation_is_found_by_its_id(site: Site) -> None:
    wanted = request_id("shop/raw", b"", "k")
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"\xff\x00")
    reply = site.http.get(f"/odradek/invocations/{wanted}/output")
    assert (reply.content, reply.headers["content-type"]) == (b"\xff\x00", "application/octet-stream")
    assert site.worker.asked[-1] == Attach(wanted, wait=False)
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b'{"a":1}')
    assert site.http.get(f"/odradek/invocations/{wanted}/attach").json() == {"a": 1}
    assert site.worker.asked[-1] == Attach(wanted, wait=True)


def test_headers_reach_the_handler_but_credentials_do_not(site: Site) -> None:
    site.http.post("/shop/ping", headers={"Stripe-Signature": "t=1", "authorization": "Bearer x", "cookie": "a=b"})
    assert site.worker.invoked.headers == {"stripe-signature": "t=1"}


def test_a_failure_has_its_own_status_where_it_is_one(site: Site) -> None:
    def fail(code: int) -> None:
        failure = Failure(code, "out of stock", {"sku": "A1"})
        site.worker.rule = lambda request: Reply("failed", request.invocation_id, failure=failure)

    fail(409)
    reply = site.http.post("/shop/ping")
    assert (reply.status_code, reply.json()) == (
        409,
        {"code": 409, "message": "out of stock", "metadata": {"sku": "A1"}},
    )
    assert reply.headers["x-odradek-id"] == site.worker.invoked.invocation_id
    fail(7)
    reply = site.http.post("/shop/ping")
    assert (reply.status_code, reply.json()["code"]) == (500, 7)


def test_unkeyed_requests_are_spread_over_the_shards_of_this_worker(site: Site) -> None:
    site.worker.owned = {1, 3}
    for _ in range(6):
        assert site.http.post("/shop/ping").status_code == 200
    places = [id_hash(request.invocation_id) % 4 for request in site.worker.asked]
    assert sorted(places) == [1, 1, 1, 3, 3, 3]


def test_health(site: Site) -> None:
    assert site.http.get("/odradek/health").json() == {"status": "ok"}
    site.worker.failed = RuntimeError("disk full")
    sick = site.http.get("/odradek/health")
    assert (sick.status_code, sick.json()["message"]) == (503, "the engine has failed: RuntimeError (the worker's log has more)")


@pytest.mark.parametrize(("method", "path"), [("POST", "/shop/raw"), ("GET", "/shop/raw/attach")])
@pytest.mark.parametrize("body", [b"", b" " * 900_000], ids=["no body", "a long one"])
def test_a_client_that_leaves_gives_its_place_back(method: str, path: str, body: bytes) -> None:
    with running(ScriptedWorker(), max_record_bytes=1_000_000) as site:
        site.worker.rule = lambda request: None
        with pytest.raises(httpx.TimeoutException):
            site.http.request(method, path, content=body, headers={"idempotency-key": "k"}, timeout=0.5)
        assert len(site.worker.asked) == 1
        until(lambda: site.front.dispatcher.waiting == 0)


def test_however_many_wait_for_one_invocation_the_engine_is_asked_once(site: Site) -> None:
    site.worker.rule = lambda request: None
    headers = {"idempotency-key": "k"}
    with ThreadPoolExecutor(3) as clients:
        attached = clients.submit(site.http.get, "/shop/ping/attach", headers=headers)
        site.worker.wait_for(1)
        # One that only looks for the invocation does not do for one that starts it.
        calls = [clients.submit(site.http.post, "/shop/ping", headers=headers) for _ in range(2)]
        site.worker.wait_for(2)
        with pytest.raises(httpx.TimeoutException):
            site.http.get("/shop/ping/attach", headers=headers, timeout=0.2)
        until(lambda: site.front.dispatcher.waiting == 3)
        site.worker.release(lambda request: Reply("completed", request.invocation_id, b'"pong"'))
        assert [waiting.result().json() for waiting in (attached, *calls)] == ["pong"] * 3
    assert [type(request) for request in site.worker.asked] == [Attach, Invoke]
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b'"new"')
    assert site.http.get("/shop/ping/attach", headers=headers).json() == "new"
