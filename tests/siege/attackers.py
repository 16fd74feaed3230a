"""Who attacks: each of these does one kind of harm for as long as the siege lasts, from an address of its own.

Each is a function of the target and a number to draw by; it runs in a process of its own, and returns what it must not have seen.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.routing import fresh_id
from tests.hostile_records import hostile_records
from tests.ingress.test_fuzz import PIECES, STATUS
from tests.kafka.c_client import CProducer
from tests.siege.app import SHOWN_TO_NOBODY

HANGS_S = 60.0
SOUND = (
    b"POST /doors/raw HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /doors/raw HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    b"POST /tally/mallory/add HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\ncontent-length: 1\r\n\r\n5",
    b"POST /doors/nap/send?delay=PT1H HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
    b"POST /doors/fails HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1",
    b"POST /doors/hidden HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1",
    b"GET /odradek/invocations/inv_aaaaaaaaaaaaaaaaaaaaaaaaaa/attach HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /doors/raw/output HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\n\r\n",
    b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /topics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer nothing\r\n\r\n",
    b"POST /records HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /odradek/private/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nI\x86\xa1",
    b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
)
FAILED_BY_ITSELF = re.compile(rb"POST /doors/(fails|hidden)")


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked, until when, and from where. `kafka` "": the embedded log."""

    ports: tuple[int, ...]
    kafka: str
    name: str
    until_s: float
    address: str

    @property
    def lasts(self) -> bool:
        return time.time() < self.until_s

    def connect(self, port: int, timeout_s: float = HANGS_S) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout_s, source_address=(self.address, 0))


def nearly_http(target: Target, seed: int) -> list[str]:
    """Requests with some bytes changed, at every port."""
    chance, wrong = random.Random(seed), list[str]()
    while target.lasts and len(wrong) < 10:
        data = bytearray(b"".join(chance.choice(SOUND) for _ in range(chance.randint(1, 3))))
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 8)] = chance.choice((*PIECES, b"", chance.randbytes(4)))
        for port in target.ports:
            try:
                answer = _answer(target, port, bytes(data))
            except TimeoutError:
                wrong.append(f"no answer for {HANGS_S:g} s at {port} to {bytes(data)!r}")
                continue
            if SHOWN_TO_NOBODY.encode() in answer:
                wrong.append(f"what is not public was seen at {port} by {bytes(data)!r}")
            if b"500" in STATUS.findall(answer) and not FAILED_BY_ITSELF.search(data):
                wrong.append(f"500 at {port} to {bytes(data)!r}: {answer[:300]!r}")
    return wrong


def _answer(target: Target, port: int, data: bytes) -> bytes:
    answer = b""
    try:
        with target.connect(port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
    except TimeoutError:
        raise
    except OSError:  # refused, or closed while we spoke
        pass
    return answer


def small_chunks(target: Target, seed: int) -> list[str]:
    """Bodies of one byte a chunk that never end."""
    head = SOUND[1].partition(b"3\r\n")[0]
    return _pour(target, target.ports[0], head, b"1\r\na\r\n" * 2_000)


def bodies_too_large(target: Target, seed: int) -> list[str]:
    """Bodies of a gigabyte, sent on after whatever answer."""
    head = b"POST /doors/raw HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n"
    return _pour(target, target.ports[0], head, bytes(65_536))


def pipelined(target: Target, seed: int) -> list[str]:
    """Requests sent ahead by the thousand, whose answers nobody reads."""
    return _pour(target, target.ports[0], b"", SOUND[0] * 500)


def _pour(target: Target, port: int, head: bytes, block: bytes) -> list[str]:
    while target.lasts:
        with contextlib.suppress(OSError), target.connect(port, 5.0) as connection:
            connection.sendall(head)
            while target.lasts:
                connection.sendall(block)
        time.sleep(0.01)
    return []


def idle_and_slow(target: Target, seed: int) -> list[str]:
    """As many connections of the public port as one gets: half of them silent, half with a byte of a head now and then."""
    held: list[socket.socket] = []
    while target.lasts:
        with contextlib.suppress(OSError):
            held.append(target.connect(target.ports[0], 5.0))
        for number, connection in enumerate(list(held[-50:])):
            try:
                connection.send(b"G" if number % 2 else b"")
            except OSError:
                held.remove(connection)
        if len(held) > 900:
            for connection in held[:300]:
                connection.close()
            del held[:300]
        time.sleep(0.01)
    return []


def large_requests(target: Target, seed: int) -> list[str]:
    """Requests of 0.9 MB that wait, a hundred at a time; answers are read, or not."""
    chance, body = random.Random(seed), bytes(900_000)
    while target.lasts:
        held: list[socket.socket] = []
        for _ in range(100):
            path = chance.choice((b"/doors/nap", b"/doors/nap/send", b"/doors/raw"))
            with contextlib.suppress(OSError):
                connection = target.connect(target.ports[0], 5.0)
                held.append(connection)
                connection.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path, len(body)) + body)
        time.sleep(1.5)
        for connection in held:
            connection.close()
    return []


def strange_records(target: Target, seed: int) -> list[str]:
    """Records of any bytes in the inputs and the internal topics, as a client in C writes them. Kafka only."""
    chance = random.Random(seed)
    topics = [f"{target.name}-records", f"{target.name}-numbers", f"{target.name}.commands", f"{target.name}.journal"]
    while target.lasts and target.kafka:
        with CProducer(target.kafka) as producer:
            for record in hostile_records(chance.randrange(2**32), 100):
                topic = chance.choice(topics)
                key = record.key if not topic.endswith("journal") else record.key or b"lx"
                producer.produce(topic, record.value, key=key, headers=record.headers)
            for _ in range(20):
                producer.produce(topics[2], COMMAND.encode(_command(chance, target.name)), partition=chance.randrange(4))
        time.sleep(0.2)
    return []


def _command(chance: random.Random, name: str) -> Command:
    kinds = ("invoke", "complete", "forward", "barrier", "cancel", "kill", "pause", "resume", "purge", "signal", "attach")
    return Command(
        kind=chance.choice(kinds),
        id=chance.choice((fresh_id(b"mallory", chance.randbytes(12)), "inv_\u017f", "", "a b")),
        target=chance.choice(("tally/add", "doors/hidden", "doors/none", "")),
        key=chance.choice((b"mallory", b"", b"\xff")),
        payload=chance.choice((b"1", b"{", b"", None)),
        caller_app=chance.choice((name, "a b", "", "nobody")),
    )


ATTACKERS: dict[str, Callable[[Target, int], list[str]]] = {
    each.__name__: each
    for each in (
        nearly_http, small_chunks, bodies_too_large, pipelined, idle_and_slow, large_requests, strange_records,
    )
}  # fmt: skip
