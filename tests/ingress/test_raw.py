"""No client ever sees a plain-text error: whatever it sends, and whatever fails inside, the answer is JSON."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest

from odradek_runtime.http.ingress.server import HttpThread
from odradek_runtime.http.ingress.sockets import listen, port_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import Receive, Scope, Send

    from tests.ingress.conftest import Site


def exchange(port: int, data: bytes) -> tuple[int, Any]:
    """The status and the JSON that is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), msgspec.json.decode(body)


@pytest.mark.parametrize("which", ["url", "admin_url", "private_url"])
@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["garbage", "no host", "length", "negative", "TLS"],
)
def test_what_is_no_http(site: Site, which: str, data: bytes) -> None:
    status, answer = exchange(urlsplit(getattr(site.at, which)).port or 0, data)
    assert (status, answer["code"], answer["metadata"]) == (400, 400, {})
    assert "malformed" in answer["message"]


@pytest.mark.parametrize(
    "request_line", ["OPTIONS * HTTP/1.1", "FOO / HTTP/1.1", "GET http://x/y HTTP/1.1", "POST /%ff/%00 HTTP/1.1", "GET // HTTP/1.1"]
)
@pytest.mark.parametrize("which", ["url", "admin_url", "private_url"])
def test_odd_requests(site: Site, which: str, request_line: str) -> None:
    data = f"{request_line}\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
    status, answer = exchange(urlsplit(getattr(site.at, which)).port or 0, data)
    assert status == answer["code"]
    assert 400 <= status < 500


class Failing:
    """An ASGI app that raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise self._error


@pytest.fixture
def server() -> Generator[HttpThread]:
    thread = HttpThread("test-http")
    thread.start()
    yield thread
    thread.stop()


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), KeyboardInterrupt(), BaseException("base")], ids=repr)
def test_what_escapes_the_routes(server: HttpThread, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    sock = listen("127.0.0.1", 0, what="test")
    server.serve("failing", Failing(error), sock, grace_s=1)
    for _ in range(2):  # and it goes on serving
        status, answer = exchange(port_of(sock), b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (status, answer["code"]) == (500, 500)
        assert "the worker's log has the details" in answer["message"]
        assert "boom" not in answer["message"]
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [f"GET /x: {type(error).__name__}"] * 2
