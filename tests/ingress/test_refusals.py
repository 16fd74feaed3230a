"""What the public port refuses, with which status and in which words; the engine sees none of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from odradek_runtime.core.records.request import Reply
from odradek_runtime.routing import request_id

if TYPE_CHECKING:
    from tests.ingress.conftest import Site


def refused(site: Site, method: str, path: str, **how: Any) -> tuple[int, str]:
    before = len(site.worker.asked)
    reply = site.http.request(method, path, **how)
    body = reply.json()
    assert sorted(body) == ["code", "message", "metadata"]
    assert body["code"] == reply.status_code
    assert len(site.worker.asked) == before
    return reply.status_code, body["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/custmer/bob/add", "no service 'custmer'; did you mean 'customer'?"),
        ("/nothing/at/all", "no service 'nothing'; services: customer, shop"),
        ("/", "no service ''; services: customer, shop"),
        ("/shop/pya", "'shop' has no handler 'pya'; did you mean 'pay'?"),
        ("/shop", "'shop' has no handler ''; handlers: pay, ping, raw"),
        ("/shop/inner", "'shop' has no handler 'inner'; handlers: pay, ping, raw"),
        ("/shop/inne", "'shop' has no handler 'inne'; handlers: pay, ping, raw"),
        ("/customer/add", "'customer' is addressed by key: /customer/{key}/{handler}"),
        ("/customer/a/b/add", "'customer' has no handler 'b'; handlers: add, total"),
        (
            "/customer/bob/add/later",
            "expected /customer/{key}/add or /customer/{key}/add/send|attach|output; a slash in a key is written %2F",
        ),
        ("/odradek/nothing/a/b", "POST /odradek/nothing/a/b: Not Found"),
    ],
)
def test_unknown_names_say_what_there_is(site: Site, path: str, message: str) -> None:
    assert refused(site, "POST", path) == (404, message)


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/shop/pay", b'{"id": "o1", "amount": "x"}', "$.amount", "$.amount: Expected `int`, got `str`"),
        ("/shop/pay", b'{"id": "o1"}', "$.amount", None),
        ("/shop/pay", b"{", "$", None),
        ("/shop/pay", b"", "$", None),
        ("/shop/ping", b"5", "$", "$: shop/ping takes no argument: send an empty body"),
        ("/customer//add", b"5", "key", "key: is empty; 'customer' is addressed by key: /customer/{key}/{handler}"),
        ("/shop/ping/send?delay=soon", b"", "delay", None),
        ("/shop/ping/send?delay=-3s", b"", "delay", None),
        ("/shop/ping/send?delay=999999d", b"", "delay", "delay: '999999d' is longer than a hundred years"),
        ("/shop/ping?delay=3s", b"", "delay", "delay: only a one-way request can be delayed; append /send to the path"),
    ],
)
def test_bad_input_names_its_field(site: Site, path: str, body: bytes, field: str, message: str | None) -> None:
    status, said = refused(site, "POST", path, content=body)
    assert status == 400
    assert said.startswith(field + ":")
    assert message is None or said == message
    assert site.http.post(path, content=body).json()["metadata"] == {"field": field}


def test_an_idempotency_key_must_have_a_sane_length(site: Site) -> None:
    headers = {"idempotency-key": "k" * 2000}
    status, said = refused(site, "POST", "/shop/ping", headers=headers)
    assert (status, said) == (400, "idempotency-key: must have 1 to 1024 characters, has 2000")
    assert refused(site, "POST", "/shop/ping", headers={"idempotency-key": ""})[0] == 400


def test_attach_needs_the_idempotency_key(site: Site) -> None:
    status, said = refused(site, "GET", "/shop/ping/attach")
    assert (status, said.partition(":")[0]) == (400, "idempotency-key")


def test_a_wrong_id_is_bad_input_and_an_unknown_one_is_not_found(site: Site) -> None:
    assert refused(site, "GET", "/odradek/invocations/nonsense/attach")[0] == 400
    id_ = request_id("shop/ping", b"", "k")
    reply = site.http.get(f"/odradek/invocations/{id_}/output")
    assert (reply.status_code, reply.json()["code"]) == (404, 404)
    assert id_ in reply.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/shop/ping", "POST"),
        ("PUT", "/customer/bob/add", "POST"),
        ("DELETE", "/shop/ping/send", "POST"),
        ("POST", "/shop/ping/attach", "GET"),
        ("POST", "/odradek/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405(site: Site, method: str, path: str, allow: str) -> None:
    assert refused(site, method, path)[0] == 405
    allowed = site.http.request(method, path).headers["allow"]
    assert sorted(allowed.split(", ")) == sorted(allow.split(", "))


def test_a_body_over_the_limit_is_413_however_it_is_sent(site: Site) -> None:
    declared = refused(site, "POST", "/shop/raw", content=b"x" * 10_001)
    assert declared == (413, "the body has 10001 bytes, more than 10000 (setting max_record_bytes)")
    chunked = refused(site, "POST", "/shop/raw", content=iter([b"x" * 6_000, b"x" * 6_000]))
    assert chunked == (413, "the body is longer than 10000 bytes (setting max_record_bytes)")
    assert site.http.post("/shop/raw", content=b"x" * 10_000).status_code == 200


def test_too_many_header_bytes_are_413(site: Site) -> None:
    assert refused(site, "POST", "/shop/ping", headers={f"x-{n}": "y" * 4_000 for n in range(5)})[0] == 413


def test_what_is_certainly_not_json_is_415(site: Site) -> None:
    status, said = refused(site, "POST", "/shop/pay", content=b"<a/>", headers={"content-type": "application/xml"})
    assert (status, said) == (415, "shop/pay takes JSON (content-type: application/json), not application/xml")
    for lenient in ("application/x-www-form-urlencoded", "text/plain", "application/vnd.api+json; charset=utf-8"):
        body, headers = b'{"id":"o","amount":1}', {"content-type": lenient}
        assert site.http.post("/shop/pay", content=body, headers=headers).status_code == 200


def test_too_many_waiting_requests_are_429(site: Site) -> None:
    site.worker.rule = lambda request: None
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(site.http.post, "/shop/ping") for _ in range(4)]
        site.worker.wait_for(4)
        status, said = refused(site, "POST", "/shop/ping")
        assert (status, said) == (429, "4 requests wait at this worker already (setting requests_waiting)")
        assert site.http.post("/shop/ping").headers["retry-after"] == "1"
        site.worker.release(lambda request: Reply("completed", request.invocation_id, b'"pong"'))
        assert [reply.result().json() for reply in waiting] == ["pong"] * 4


def test_a_failed_engine_is_503(site: Site) -> None:
    site.worker.failed = RuntimeError("disk full")
    status, said = refused(site, "POST", "/shop/ping")
    reason = "this worker has failed and is about to end: RuntimeError (the worker's log has more)"
    assert (status, said) == (503, f"{reason}; nothing was started; the request may be repeated")
    assert site.http.post("/shop/ping").headers["retry-after"] == "5"
