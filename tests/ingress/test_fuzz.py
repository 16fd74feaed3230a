"""Bytes that are nearly HTTP, by the thousand: no 500, no hang, and the port serves the next client."""

from __future__ import annotations

import random
import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.ingress.raw import CHUNKED, RAW
from tests.ingress.test_two_ways import SMUGGLED

if TYPE_CHECKING:
    from tests.ingress.conftest import Site

SOUND = (
    RAW + b"content-length: 5\r\n\r\nhello",
    CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    b"POST /customer/bob/add HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: 1\r\n\r\n5",
    b"POST /shop/ping/send?delay=PT1H HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    b"GET /odradek/invocations/inv_aaaaaaaaaaaaaaaaaaaaaaaaaa/attach HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /shop/ping/output HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\n\r\n",
    b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /odradek/private/ask HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nI\x86\xa1",
    b"GET /topics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer nothing\r\n\r\n",
    *SMUGGLED.values(),
)
PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b",", b"%", b"%2F", b"/"),
    *(b"\xff", b"0", b"-1", b"chunked", b"close", b"upgrade"),
)
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


def mutated(chance: random.Random) -> bytes:
    """One or more requests with some bytes changed, left out, doubled or put in."""
    data = bytearray(b"".join(chance.choice(SOUND) for _ in range(chance.randint(1, 3))))
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(data) + 1)
        to = min(at + chance.randint(0, 8), len(data))
        match chance.randrange(4):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:at] = chance.choice(PIECES)
            case 2:
                data[at:to] = chance.randbytes(to - at)
            case _:
                data[at:at] = data[at:to] * chance.randint(1, 50)
    return bytes(data)


def send(port: int, data: bytes, chance: random.Random) -> bytes:
    """In one or two parts; then nothing more comes. A server that neither answers nor closes makes this time out."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        answer = b""
        try:
            cut = chance.randint(0, len(data))
            connection.sendall(data[:cut])
            connection.sendall(data[cut:])
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            raise
        except OSError:  # it was closed while we spoke
            pass
        return answer


def check(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    data = mutated(chance)
    shown = f"\r\nauthorization: {site.shown['authorization']}\r\n".encode()
    for url in (site.at.url, site.at.admin_url, site.at.private_url):
        if url == site.at.private_url:  # as a worker that speaks nonsense: strangers' is not looked at there
            data = data.replace(b"\r\n", shown, 1)
        answer = send(urlsplit(url).port or 0, data, chance)
        assert b"500" not in STATUS.findall(answer), f"seed {seed} at {url}: {data!r} is answered {answer!r}"


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_what_is_nearly_http(site: Site, caplog: pytest.LogCaptureFixture, first: int) -> None:
    for seed in range(first, first + 100):
        check(site, seed)
    assert site.http.post("/shop/raw", content=b"hello").content == b"hello"
    assert not [record for record in caplog.records if record.exc_info]
    assert site.admin.get("/health").status_code == 200


@pytest.mark.soak
def test_what_is_nearly_http_for_a_minute(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    until_s, seed = time.monotonic() + 60, 1_000
    while time.monotonic() < until_s:
        check(site, seed)
        seed += 1
    assert site.http.post("/shop/raw", content=b"hello").content == b"hello"
    assert not [record for record in caplog.records if record.exc_info]
