"""What could be read in two ways is refused, and its connection closed: nothing behind it is taken for a request."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest

from odradek_runtime.core.records.request import Invoke, Reply
from tests.ingress.raw import CHUNKED, RAW, connect, exchange, one_answer, rest

if TYPE_CHECKING:
    from tests.ingress.conftest import Site


SMUGGLED = {
    "length and coding": RAW + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "coding and length": RAW + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "length twice": RAW + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "two lengths": RAW + b"content-length: 1\r\ncontent-length: 2\r\n\r\na",
    "a list of lengths": RAW + b"content-length: 1, 1\r\n\r\na",
    "a signed length": RAW + b"content-length: +1\r\n\r\na",
    "an empty length": RAW + b"content-length:\r\n\r\na",
    "an endless length": RAW + b"content-length: 99999999999999999999999\r\n\r\na",
    "a folded length": RAW + b"content-length:\r\n 1\r\n\r\na",
    "a folded coding": RAW + b"transfer-encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "a folded header": RAW + b"x: y\r\n z\r\ncontent-length: 1\r\n\r\na",
    "a space before the colon": RAW + b"content-length : 1\r\n\r\na",
    "a space before the coding's colon": RAW + b"transfer-encoding : chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "a space before the headers": b"POST /shop/raw HTTP/1.1\r\n host: x\r\ncontent-length: 1\r\n\r\na",
    "coding twice": RAW + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "two codings": RAW + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "chunked not last": RAW + b"transfer-encoding: chunked, gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "an unknown coding": RAW + b"transfer-encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "no coding": RAW + b"transfer-encoding: identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "another coding first": RAW + b"transfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "coding in 1.0": b"POST /shop/raw HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "line feeds alone": (RAW + b"content-length: 1\r\n\r\n").replace(b"\r", b"") + b"a",
    "one line feed alone": RAW + b"x: y\ncontent-length: 1\r\n\r\na",
    "the last line feed alone": RAW + b"content-length: 1\r\n\na",
    "a carriage return alone": RAW + b"x: y\rz: w\r\ncontent-length: 1\r\n\r\na",
    "a chunk's line feed alone": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a line feed behind a chunk": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "a line feed in an extension": CHUNKED + b"1;a=b\nX\r\na\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\naXX0\r\n\r\n",
    "a chunk's size with 0x": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a chunk's size that overflows": CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n",
    "a length in a trailer": CHUNKED + b"1\r\na\r\n0\r\ncontent-length: 7\r\n\r\n",
    "a NUL": RAW + b"x: a\x00b\r\ncontent-length: 1\r\n\r\na",
    "no host": b"POST /shop/raw HTTP/1.1\r\ncontent-length: 1\r\n\r\na",
    "two hosts": RAW + b"host: y\r\ncontent-length: 1\r\n\r\na",
    "0.9": b"GET /shop/raw\r\n\r\n",
    "2.0": b"GET /shop/raw HTTP/2.0\r\nhost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT shop:1 HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_what_could_be_read_in_two_ways(site: Site, data: bytes) -> None:
    """Refused, the connection closed, and what stands behind it never taken for a request."""
    status, said = exchange(site, data + RAW + b"content-length: 8\r\n\r\nsmuggled")
    assert status == said["code"]
    assert status in {400, 501, 505}
    assert not [request for request in site.worker.asked if isinstance(request, Invoke) and request.payload == b"smuggled"]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
@pytest.mark.parametrize("body", [b"content-length: 5\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"])
@pytest.mark.parametrize("parts", [False, True], ids=["at once", "in parts"])
def test_an_offer_to_speak_another_protocol(site: Site, protocol: bytes, body: bytes, parts: bool) -> None:
    """Java's own client offers HTTP/2 with every request. Its body is read, and the connection goes on."""
    head = RAW + b"connection: upgrade, http2-settings\r\nupgrade: " + protocol + b"\r\nhttp2-settings: AAE\r\n"
    with connect(site) as connection:
        for _ in range(2):
            for part in [head, body[:25], body[25:]] if parts else [head + body]:
                connection.sendall(part)
                time.sleep(0.01 if parts else 0)
            assert one_answer(connection, b"hello").startswith(b"HTTP/1.1 200 ")


def test_trailers_are_no_headers(site: Site) -> None:
    with connect(site) as connection:
        connection.sendall(CHUNKED + b"1\r\na\r\n0\r\nx-late: 1\r\nidempotency-key: k\r\n\r\n")
        assert one_answer(connection, b"\r\n\r\na").startswith(b"HTTP/1.1 200 ")
    assert "x-late" not in site.worker.invoked.headers
    assert not site.worker.invoked.idempotent


@pytest.mark.parametrize(
    "data",
    [
        RAW + b"x-long: " + b"x" * 70_000,
        RAW + b"x-long: " + b"x" * 66_000 + b"\r\n\r\n",
        RAW + b"x: y\r\n" * 12_000 + b"\r\n",
        b"GET /" + b"x" * 66_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"x" * 90_000,
    ],
    ids=["endless header", "long header", "many headers", "long target", "endless target"],
)
def test_a_head_that_is_too_long(site: Site, data: bytes) -> None:
    status, said = exchange(site, data)
    assert (status, said["message"]) == (
        431,
        "line and headers of the request are longer than 65536 bytes (setting http_head_bytes)",
    )


def test_older_clients(site: Site) -> None:
    with connect(site) as connection:
        connection.sendall(b"POST /shop/raw HTTP/1.0\r\ncontent-length: 3\r\n\r\nold")
        assert rest(connection).endswith(b"old")


def test_the_answer_to_one_request_is_not_taken_for_anothers(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The second request cannot be read while the first is being answered: 400 would be the first one's answer."""
    site.worker.rule = lambda request: None
    with connect(site) as connection:
        connection.sendall(RAW + b"content-length: 1\r\n\r\na" + CHUNKED + b"1\r\na\r\n")
        site.worker.wait_for(1)
        connection.sendall(b"nonsense")
        assert rest(connection) == b""
    site.worker.release(lambda request: Reply("completed", request.invocation_id, b"done"))
    assert site.http.get("/odradek/health").status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def test_what_stands_behind_the_last_request_is_not_served(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The first answer ends the connection, in the middle of the second request."""
    first = RAW.replace(b"host: x", b"host: x\r\nconnection: close") + b"content-length: 1\r\n\r\na"
    with connect(site) as connection:
        connection.sendall(first + CHUNKED + b"1\r\nb\r\n")
        assert rest(connection).endswith(b"\r\n\r\na")
    assert site.http.get("/odradek/health").status_code == 200
    assert [request.payload for request in site.worker.asked if isinstance(request, Invoke)] == [b"a"]
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_resets_before_its_answer(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when its reset arrives between the request and the answer: to end our side of the connection fails."""

    def reset(transport: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.write_eof", reset)
    with connect(site) as connection:
        connection.sendall(RAW + b"content-length: 99999999999\r\n\r\n")
        rest(connection)
    assert not [record for record in caplog.records if record.exc_info]
