"""Talks to a front by bytes, over connections of its own. Stands before the tests of what clients should not do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from tests.ingress.conftest import Site

FAR_TOO_MUCH = 64_000_000
RAW = b"POST /shop/raw HTTP/1.1\r\nhost: x\r\n"
CHUNKED = RAW + b"transfer-encoding: chunked\r\n\r\n"


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(site.at.url).port or 0), 30)


def pour(connection: socket.socket, block: bytes) -> int:
    """Send a block again and again until the other side takes no more; how many bytes it took, its socket's buffers included."""
    sent = 0
    try:
        while sent < FAR_TOO_MUCH:
            sent += connection.send(block)
    except OSError:
        pass
    return sent


def rest(connection: socket.socket) -> bytes:
    """All that is answered until the other side closes: a test that gets here with an open connection times out."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


def one_answer(connection: socket.socket, end: bytes) -> bytes:
    """What is answered, up to these bytes."""
    answer = b""
    while not answer.endswith(end):
        part = connection.recv(65536)
        assert part, answer
        answer += part
    return answer


def parsed(answer: bytes) -> tuple[int, Any]:
    """Status and JSON of one answer, behind which the connection was closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), msgspec.json.decode(body)


def exchange(site: Site, data: bytes) -> tuple[int, Any]:
    with connect(site) as connection:
        connection.sendall(data)
        return parsed(rest(connection))
