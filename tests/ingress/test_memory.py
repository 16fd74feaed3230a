"""What is held for clients is bounded in bytes: bodies that arrive, requests that wait, answers that nobody reads."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.http.ingress import wire
from odradek_runtime.routing import fresh_id
from tests.ingress.conftest import running, until
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.ingress.conftest import Site

LIMIT = 5_000_000
ONE = 900_000


@pytest.fixture
def site() -> Generator[Site]:
    with running(ScriptedWorker(), max_record_bytes=1_000_000, memory_bytes=4 * LIMIT, requests_waiting=1_000) as site:
        yield site


def held(site: Site) -> int:
    (line,) = (line for line in site.admin.get("/metrics").text.splitlines() if line.startswith("odradek_http_held_bytes "))
    return int(float(line.split()[1]))


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(site.at.url).port or 0), 30)


def test_requests_that_wait(site: Site) -> None:
    """Those that there is no room for are told at once; the others are answered, and then there is room again."""
    site.worker.rule = lambda request: None
    with ThreadPoolExecutor(20) as clients:
        replies = [clients.submit(httpx.post, f"{site.at.url}/shop/raw", content=b"x" * ONE, timeout=60) for _ in range(20)]
        until(lambda: sum(reply.done() for reply in replies) + len(site.worker.asked) == 20)
        assert LIMIT - ONE < held(site) <= LIMIT
        refused = [reply.result() for reply in replies if reply.done()]
        assert len(refused) == 15
        for reply in refused:
            assert (reply.status_code, reply.headers["retry-after"], "x-odradek-id" in reply.headers) == (429, "1", False)
            assert f"of {LIMIT} bytes at this worker (setting memory_bytes); nothing was started" in reply.json()["message"]
        site.worker.release(lambda request: Reply("completed", request.invocation_id, b"done"))
        assert sorted({reply.result().status_code for reply in replies}) == [200, 429]
    until(lambda: held(site) == 0)
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"done")
    assert site.http.post("/shop/raw", content=b"x" * ONE).content == b"done"
    assert 'odradek_http_refused_total{reason="memory"} 15.0' in site.admin.get("/metrics").text


@pytest.mark.parametrize("framing", [b"content-length: 1000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n%x\r\n" % 1_000_000])
def test_bodies_that_arrive(site: Site, framing: bytes) -> None:
    """What counts is what is there, not what is announced; a client that leaves leaves nothing."""
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connect(site))
            connection.sendall(b"POST /shop/raw HTTP/1.1\r\nhost: x\r\n" + framing + b"x" * ONE)
        until(lambda: 'odradek_http_refused_total{reason="memory"} 15.0' in site.admin.get("/metrics").text)
        assert LIMIT - 1_000_000 < held(site) <= LIMIT
        assert site.http.get("/odradek/health").status_code == 200
    until(lambda: held(site) == 0)
    assert not site.worker.asked


def test_announced_is_not_held(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(site)).sendall(b"POST /shop/raw HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        until(lambda: "odradek_http_connections 50.0" in site.admin.get("/metrics").text)
        assert site.http.post("/shop/raw", content=b"x" * ONE).status_code == 200


def test_answers_that_nobody_reads(site: Site) -> None:
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"x" * 12_000_000)
    with connect(site) as connection:
        connection.sendall(b"POST /shop/raw HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na")
        until(lambda: held(site) > LIMIT)
        for path in ("/shop/raw", "/shop/ping"):
            assert site.http.post(path).status_code == 429
        assert site.http.get(f"/odradek/invocations/{site.worker.asked[0].invocation_id}/attach").status_code == 429
        assert len(site.worker.asked) == 1
        read = 0
        while read < 12_000_000:
            read += len(connection.recv(1_000_000))
        until(lambda: held(site) == 0)
    assert site.http.post("/shop/raw").status_code == 200


def test_requests_of_peers(site: Site) -> None:
    """They come to the private port, and wait in the same memory."""
    site.worker.rule = lambda request: None
    body = wire.encode_request(Invoke(fresh_id(None, b"0" * 12, hash_=0), "shop/raw", b"", b"x" * ONE, {}, wait=True))
    with ThreadPoolExecutor(20) as peers:
        url, shown = site.at.private_url + wire.ASK_PATH, site.shown
        asks = [peers.submit(httpx.post, url, content=body, headers=shown, timeout=60) for _ in range(20)]
        until(lambda: sum(ask.done() for ask in asks) == 15)
        assert LIMIT - 2 * ONE < held(site) <= LIMIT
        assert {ask.result().status_code for ask in asks if ask.done()} == {429}
        until(lambda: bool(site.worker.waiting))
        site.worker.release(lambda request: Reply("completed", request.invocation_id, b"done"))
        assert {ask.result().status_code for ask in asks} == {200, 429}
    refused = httpx.post(site.at.private_url + wire.ASK_PATH, content=b"?" * ONE, headers=site.shown)
    assert refused.status_code == 400
    until(lambda: held(site) == 0)
