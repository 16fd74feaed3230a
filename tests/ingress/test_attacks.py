"""What people do to a port that nobody should: each in its own connection, by bytes, against a running front.

No test measures time: what is asked is whether a connection was ended, how much of what was sent was taken, and who was answered
meanwhile.
"""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.http.ingress.door import Door, Limits, network_of
from odradek_runtime.http.ingress.protocol import BoundedProtocol
from tests.ingress.conftest import until
from tests.ingress.raw import CHUNKED, FAR_TOO_MUCH, RAW, connect, exchange, one_answer, parsed, pour, rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingress.conftest import Site


# --- one loop, shared by nobody else ---


def test_probes_are_answered_while_the_public_port_cannot(site: Site) -> None:
    """Whatever keeps the loop of the public port, the admin port has its own."""
    release, held = threading.Event(), threading.Event()
    loop = site.front._thread.loop  # pyright: ignore[reportPrivateUsage]

    def hold() -> None:
        held.set()
        release.wait(60)

    loop.call_soon_threadsafe(hold)
    assert held.wait(30)
    try:
        for path in ("/health", "/ready", "/metrics"):
            assert site.admin.get(path).status_code == 200
    finally:
        release.set()
    assert site.http.get("/odradek/health").status_code == 200


def test_eight_connections_of_small_chunks(start: Callable[..., Site]) -> None:
    """Each is ended soon, and while they pour everybody else is answered."""
    site = start(max_record_bytes=8_000_000)
    taken: list[int] = []

    def attack() -> None:
        with connect(site) as connection:
            connection.sendall(CHUNKED)
            taken.append(pour(connection, b"1\r\na\r\n" * 10_000))

    attackers = [threading.Thread(target=attack, daemon=True) for _ in range(8)]
    for attacker in attackers:
        attacker.start()
    while any(attacker.is_alive() for attacker in attackers):
        assert site.admin.get("/health").status_code == 200
        assert site.http.post("/shop/raw", content=b"me").status_code == 200
    assert len(taken) == 8
    assert max(taken) < FAR_TOO_MUCH
    assert {request.payload for request in site.worker.asked if isinstance(request, Invoke)} == {b"me"}


@pytest.mark.parametrize(
    "chunk", [b"1\r\na\r\n", b"1;" + b"x" * 5_000 + b"\r\na\r\n", b"1\r\na\r\n" * 100], ids=["one", "extension", "many"]
)
def test_a_body_that_is_mostly_framing(start: Callable[..., Site], chunk: bytes) -> None:
    site = start(max_record_bytes=8_000_000)
    with connect(site) as connection:
        connection.sendall(CHUNKED + chunk * (200_000 // len(chunk)))
        status, said = parsed(rest(connection))
    assert (status, said["message"]) == (400, "the body comes in chunks far too small; send it in larger ones")
    assert b'odradek_http_refused_total{reason="framing"} 1.0' in site.admin.get("/metrics").content


def test_trailers_without_end(start: Callable[..., Site]) -> None:
    site = start()
    with connect(site) as connection:
        connection.sendall(CHUNKED + b"1\r\na\r\n0\r\n" + b"x-more: y\r\n" * 20_000)
        assert parsed(rest(connection))[0] == 400


def test_chunks_as_people_send_them(start: Callable[..., Site]) -> None:
    """Lines of a file, one chunk each, and a body of some megabytes."""
    site = start(max_record_bytes=8_000_000)
    lines = [b'{"id": "o%d", "amount": %d, "of": "somebody or other"}\n' % (n, n) for n in range(40_000)]
    assert site.http.post("/shop/raw", content=iter(lines)).content == b"".join(lines)
    assert site.http.post("/shop/raw", content=b"x" * 8_000_000).content == b"x" * 8_000_000


# --- answered before it was read ---


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (RAW + b"content-length: 9999999999\r\n\r\n", 413),
        (CHUNKED, 413),
        (RAW.replace(b"raw", b"nothing") + b"content-length: 9999999999\r\n\r\n", 404),
        (RAW.replace(b"POST", b"PUT") + b"content-length: 9999999999\r\n\r\n", 405),
    ],
    ids=["declared", "chunked", "no handler", "no method"],
)
def test_a_body_that_goes_on_after_its_answer(site: Site, head: bytes, status: int) -> None:
    with connect(site) as connection:
        connection.sendall(head)
        taken = pour(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert taken < FAR_TOO_MUCH / 2
        assert parsed(rest(connection))[0] == status


def test_a_client_that_sends_all_before_it_reads_gets_its_answer(site: Site) -> None:
    reply = site.http.post("/shop/raw", content=b"x" * 3_000_000)
    assert (reply.status_code, reply.headers["connection"]) == (413, "close")
    assert site.http.post("/shop/raw", content=b"next").content == b"next"


def test_a_request_that_is_read_keeps_its_connection(site: Site) -> None:
    with connect(site) as connection:
        for _ in range(3):
            connection.sendall(RAW + b"content-length: 4\r\n\r\nabcd")
            answer = one_answer(connection, b"abcd")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" not in answer


# --- slow ---


@pytest.mark.parametrize("drip", [b"", b"GET / HTTP/1.1\r\nx: ", b"\r\n"], ids=["nothing", "half a head", "empty lines"])
def test_a_head_that_does_not_come(start: Callable[..., Site], drip: bytes) -> None:
    site = start(http_head_s=0.1)
    with connect(site) as connection:
        connection.sendall(drip)
        connection.settimeout(0.2)
        answer = b""
        while True:
            try:
                part = connection.recv(65536)
            except TimeoutError:
                connection.send(drip or b"\r\n")  # it goes on, as slowly as can be
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
    status, said = parsed(answer)
    assert (status, said["message"]) == (
        408,
        "line and headers of the request have not arrived within 0.1 s (setting http_head_s)",
    )


def test_the_second_head_of_a_connection_that_does_not_come(start: Callable[..., Site]) -> None:
    site = start(http_head_s=0.1)
    with connect(site) as connection:
        connection.sendall(RAW + b"content-length: 1\r\n\r\na" + b"GET / HT")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


@pytest.mark.parametrize("head", [CHUNKED + b"1\r\na\r\n", RAW + b"content-length: 1000\r\n\r\nabc"], ids=["chunked", "declared"])
def test_a_body_that_does_not_come(start: Callable[..., Site], head: bytes) -> None:
    site = start(http_body_s=0.1)
    status, said = exchange(site, head)
    assert (status, said["message"]) == (408, "the body has not arrived within 0.1 s (setting http_body_s)")
    assert not site.worker.asked


@pytest.mark.parametrize("head", [RAW, RAW.replace(b"POST /shop/raw", b"GET /shop/raw/attach")], ids=["call", "attach"])
def test_a_body_that_has_not_arrived_when_the_worker_ends(
    start: Callable[..., Site], caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    site = start()
    with connect(site) as connection:
        connection.sendall(head + b"content-length: 9\r\n\r\nhalf")
        until(lambda: site.front._budget.held_bytes == 4)  # pyright: ignore[reportPrivateUsage]
        site.front._thread.stop_serving("public")  # pyright: ignore[reportPrivateUsage]
        status, said = parsed(rest(connection))
    assert (status, said["code"]) == (503, 503)
    assert "this worker is leaving" in said["message"]
    assert "nothing was started" in said["message"]
    assert not site.worker.asked
    assert not [record for record in caplog.records if record.exc_info]
    until(lambda: b"odradek_http_connections 0.0" in site.admin.get("/metrics").content)


def test_a_request_may_wait_for_longer_than_it_may_take_to_arrive(start: Callable[..., Site]) -> None:
    site = start(http_head_s=0.1, http_body_s=0.1, http_idle_s=1)
    site.worker.rule = lambda request: None
    with connect(site) as connection:
        connection.sendall(RAW + b"connection: close\r\ncontent-length: 1\r\n\r\na")
        site.worker.wait_for(1)
        time.sleep(2.5)  # two looks at all connections
        site.worker.release(lambda request: Reply("completed", request.invocation_id, b"late"))
        assert rest(connection).endswith(b"late")


def test_an_answer_that_nobody_reads(start: Callable[..., Site]) -> None:
    site = start(max_record_bytes=30_000_000, http_body_s=0.5)
    site.worker.rule = lambda request: Reply("completed", request.invocation_id, b"x" * 30_000_000)
    with connect(site) as connection:
        connection.sendall(RAW + b"content-length: 1\r\n\r\na")
        until(lambda: b'odradek_http_refused_total{reason="slow_reader"} 1.0' in site.admin.get("/metrics").content)
        until(lambda: b"odradek_http_connections 0.0" in site.admin.get("/metrics").content)


def test_a_connection_that_is_idle(start: Callable[..., Site]) -> None:
    site = start(http_idle_s=1)
    with connect(site) as connection:
        connection.sendall(RAW + b"content-length: 1\r\n\r\na")
        assert rest(connection).startswith(b"HTTP/1.1 200 ")


# --- many ---


@pytest.mark.parametrize(
    ("limits", "said", "reason"),
    [
        ({"http_connections": 20}, "20 connections are open at this worker already (setting http_connections)", "connections"),
        (
            {"http_connections_per_address": 20},
            "20 connections from one address are open at this worker already (setting http_connections_per_address)",
            "address",
        ),
    ],
    ids=["all", "of one address"],
)
def test_more_connections_than_there_are_places(start: Callable[..., Site], limits: dict[str, int], said: str, reason: str) -> None:
    site = start(**limits)
    with ExitStack() as open_:
        for _ in range(20):
            open_.enter_context(connect(site)).sendall(b"GET / HTTP")
        until(lambda: b"odradek_http_connections 20.0" in site.admin.get("/metrics").content)
        for _ in range(50):
            with connect(site) as one_more:
                assert parsed(rest(one_more)) == (503, {"code": 503, "message": said, "metadata": {}})
        assert site.admin.get("/health").status_code == 200
        assert f'odradek_http_refused_total{{reason="{reason}"}} 50.0' in site.admin.get("/metrics").text
    until(lambda: b"odradek_http_connections 0.0" in site.admin.get("/metrics").content)
    assert site.http.get("/odradek/health").status_code == 200


def test_whose_place_is_free_again() -> None:
    door = Door(Limits(connections=3, per_address=2))
    assert [door.enter("a"), door.enter("a"), door.enter("a"), door.enter("b"), door.enter("c")] == [
        "",
        "",
        "address",
        "",
        "connections",
    ]
    door.leave("a")
    assert (door.open, door.enter("a"), door.enter("b")) == (2, "", "connections")
    for address in ("a", "a", "b"):
        door.leave(address)
    assert (door.open, door.enter("b"), door.enter("b")) == (0, "", "")


@pytest.mark.parametrize(("soft", "hard", "places"), [(256, 700, 188), (256, 2_000, 1_000), (100, 100, 16), (5_000, 5_000, 1_000)])
def test_no_more_places_than_there_are_files(soft: int, hard: int, places: int) -> None:
    """In a process of its own, whose limit is its own."""
    program = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from odradek_runtime.http.ingress.descriptors import places_for\n"
        "print(places_for(1_000))\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == f"{places}\n"
    assert ("raise that (ulimit -n)" in told.stderr) == (places < 1_000)


def test_an_ipv6_network_is_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == "fe80::"


def test_requests_sent_ahead_of_their_answers(start: Callable[..., Site]) -> None:
    """Some are answered in their order, and a flood of them ends the connection."""
    site = start(requests_waiting=1000)
    one = RAW + b"content-length: 2\r\n\r\n%02d"
    with connect(site) as connection:
        last = one.replace(b"host: x", b"host: x\r\nconnection: close") % 20
        connection.sendall(b"".join(one % n for n in range(20)) + last)
        assert [part[-2:] for part in rest(connection).split(b"HTTP/1.1 200 OK")[1:]] == [b"%02d" % n for n in range(21)]
    site.worker.rule = lambda request: None
    with connect(site) as connection:
        connection.sendall(b"".join(one % (n % 100) for n in range(1000)))
        rest(connection)
    assert b'odradek_http_refused_total{reason="pipelined"} 1.0' in site.admin.get("/metrics").content
    assert len(site.worker.asked) < 100


def test_a_client_that_leaves_with_requests_behind(start: Callable[..., Site]) -> None:
    """Its end stands behind what is not read yet, and its place is free nevertheless."""
    site = start()
    site.worker.rule = lambda request: None
    one = RAW + b"content-length: 1\r\n\r\na"
    with connect(site) as connection:
        connection.sendall(one)
        site.worker.wait_for(1)
        connection.sendall(one * 2)
    until(lambda: site.front.dispatcher.waiting == 0)
    until(lambda: b"odradek_http_connections 0.0" in site.admin.get("/metrics").content)
    assert len(site.worker.asked) == 1


def test_what_is_sent_ahead_of_its_turn_is_counted_and_little(start: Callable[..., Site]) -> None:
    """However many are answered before it."""
    site = start()
    site.worker.rule = lambda request: None if request.wait else Reply("accepted", request.invocation_id)
    budget = site.front._budget  # pyright: ignore[reportPrivateUsage]
    with connect(site) as connection:
        quick, slow = RAW.replace(b"raw", b"raw/send") + b"content-length: 1\r\n\r\na", RAW + b"content-length: 1\r\n\r\na"
        connection.setblocking(False)
        connection.send(quick * 60 + slow + RAW + b"content-length: 99999999\r\n\r\n")
        connection.settimeout(2)
        pour(connection, b"x" * 65536)
        site.worker.wait_for(61)
        held = [len(one.body) for one in found() if isinstance(one, RequestResponseCycle)]
        assert 0 < max(held) < 500_000
        assert max(held) < budget.held_bytes < 500_000
    until(lambda: budget.held_bytes == 0)


def found() -> list[object]:
    """All that stands for a connection or a request in this process."""
    kinds = (BoundedProtocol, RequestResponseCycle, Request, Invoke)
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


@pytest.mark.parametrize(
    "data",
    [
        RAW + b"content-length: 5\r\n\r\nhello",
        RAW + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
        RAW + b"content-length: 99999\r\n\r\n",
        RAW + b"content-length: 99\r\n\r\nhalf",
        (RAW + b"content-length: 1\r\n\r\na") * 9,
        (RAW + b"content-length: 1\r\n\r\na") * 9 + RAW + b"content-length: 99\r\n\r\nhalf",
        b"GARBAGE",
        b"",
    ],
    ids=["kept", "closed", "refused", "left", "many", "many and half", "garbage", "nothing"],
)
def test_a_connection_that_has_ended_leaves_nothing_behind(start: Callable[..., Site], data: bytes) -> None:
    """Nor does it wait for the garbage collector, which comes seldom here."""
    site = start()
    gc.collect()
    gc.disable()
    before = {id(one): one for one in found()}
    try:
        for _ in range(10):
            with connect(site) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                rest(connection)
        until(lambda: b"odradek_http_connections 0.0" in site.admin.get("/metrics").content)
        site.worker.asked.clear()
        site.admin.close()
        until(lambda: all(id(one) in before for one in found()), 10)
    finally:
        gc.enable()
