"""The private port is for the app's own workers: nobody else is answered there, starts anything, or learns what there is."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.configuration.worker_file import WorkerFile
from odradek_runtime.core.records.request import Attach, Invoke, Request
from odradek_runtime.http.admin.siblings import METRICS_PATH, READY_PATH, Place
from odradek_runtime.http.ingress import wire
from odradek_runtime.http.ingress.credential import Credential
from odradek_runtime.log.port import Peer
from odradek_runtime.node.node import Node
from odradek_runtime.routing import fresh_id
from tests.ingress.conftest import TOKEN, Site, running, until
from tests.ingress.scripted import ScriptedWorker
from tests.ingress.shop import make_app
from tests.processes import listening

OpenSite = Callable[[ScriptedWorker], Site]
ID = fresh_id(b"bob", b"0" * 12)
REQUESTS: list[Request] = [
    Invoke(ID, "customer/add", b"bob", b"1", {}, wait=True),
    Invoke(ID, "shop/inner", b"", b"", {}, wait=False),
    Attach(ID, wait=True),
]


def token(secret: bytes, url: str, app: str = "shop") -> str:
    return hmac.new(secret, f"{app} {url}".encode(), hashlib.sha256).hexdigest()


def strangers(site: Site) -> dict[str, list[tuple[str, str]]]:
    """Headers of those who are no workers of this app."""
    url, secret = site.at.private_url, site.log.secret
    right = site.shown["authorization"]
    assert right == "Bearer " + token(secret, url)
    return {
        "none": [],
        "empty": [("authorization", "")],
        "scheme alone": [("authorization", "Bearer")],
        "another app's": [("authorization", "Bearer " + token(b"another app's secret", url))],
        "another app's with the same secret": [("authorization", "Bearer " + token(secret, url, "shop2"))],
        "for another worker": [("authorization", "Bearer " + token(secret, url.replace("127.0.0.1", "127.0.0.2")))],
        "of nothing": [("authorization", "Bearer " + token(b"", url))],
        "the secret": [("authorization", "Bearer " + secret.decode())],
        "another scheme": [("authorization", right.replace("Bearer", "Basic"))],
        "cut": [("authorization", right[:-1])],
        "longer": [("authorization", right + "0")],
        "twice": [("authorization", right), ("authorization", right)],
        "elsewhere": [("x-authorization", right), ("cookie", right)],
    }


def test_nobody_else_starts_or_reads_anything(site: Site) -> None:
    asked = list(site.worker.asked)
    for who, headers in strangers(site).items():
        for request in REQUESTS:
            reply = httpx.post(site.at.private_url + wire.ASK_PATH, content=wire.encode_request(request), headers=headers)
            assert reply.status_code == 401, who
            assert reply.json()["message"] == "this port is for the app's own workers"
    assert site.worker.asked == asked
    reply = httpx.post(site.at.private_url + wire.ASK_PATH, content=wire.encode_request(REQUESTS[0]), headers=site.shown)
    assert (reply.status_code, len(site.worker.asked)) == (200, len(asked) + 1)


def test_a_worker_of_the_time_before_reads_nothing_by_an_id(site: Site) -> None:
    """It would show what is not public, so neither asks the other for that: kinds of requests differ."""
    asked = list(site.worker.asked)
    old = b"A" + wire.encode_request(Attach(ID, wait=True))[1:]
    assert httpx.post(site.at.private_url + wire.ASK_PATH, content=old, headers=site.shown).status_code == 400
    assert site.worker.asked == asked


def test_nobody_else_learns_what_there_is(site: Site) -> None:
    def ask(method: str, path: str) -> tuple[int, bytes]:
        reply = httpx.request(method, site.at.private_url + path)
        return reply.status_code, reply.content

    paths = (wire.ASK_PATH, METRICS_PATH, READY_PATH, "/", "/shop/ping", "/odradek/health", "/no/such/path")
    answers = {ask(method, path) for path in paths for method in ("GET", "POST", "PUT", "DELETE")}
    assert {code for code, _ in answers} == {401}
    assert len(answers) == 1
    assert httpx.get(site.at.private_url + READY_PATH, headers=site.shown).status_code == 200


def test_nothing_is_read_of_a_stranger(site: Site) -> None:
    """Refused by its head: its body would take what is kept for workers and clients."""
    at = urlsplit(site.at.private_url)
    with socket.create_connection((at.hostname, at.port), timeout=10) as stranger:
        head = f"POST {wire.ASK_PATH} HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-length: 8000000\r\n\r\n"
        stranger.sendall(head.encode())
        assert stranger.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_before_the_secret_is_known_nobody_is_admitted(tmp_path: Path) -> None:
    with running(ScriptedWorker(), data_dir=tmp_path) as site:
        shown = site.shown
        site.front.credential._secret = b""  # as at a start
        for headers in (shown, {"authorization": "Bearer " + token(b"", site.at.private_url)}):
            assert httpx.get(site.at.private_url + READY_PATH, headers=headers).status_code == 401


def test_workers_with_one_private_token_need_nothing_of_the_log(tmp_path: Path) -> None:
    given = "0123456789abcdef"
    with (
        running(ScriptedWorker(owned=[]), data_dir=tmp_path, private_token=given) as first,
        running(ScriptedWorker(), data_dir=tmp_path, private_token=given) as second,
    ):
        first.log.secret = second.log.secret = b"not what is asked for"
        first.log.members = [Peer(second.at.private_url, (0, 1, 2, 3))]
        assert first.http.post("/customer/bob/add", content=b"1").json() == 1
        assert second.shown["authorization"] == "Bearer " + token(given.encode(), second.at.private_url)


@pytest.mark.parametrize("ahead", ["asking", "asked"])
def test_a_new_secret_reaches_everybody_and_no_request_is_lost(open_site: OpenSite, ahead: str) -> None:
    """One worker has started with it, the other has not looked since."""
    first, second = open_site(ScriptedWorker(owned=[])), open_site(ScriptedWorker())
    first.log.members = [Peer(second.at.private_url, (0, 1, 2, 3))]
    first.log.secret = second.log.secret = b"another, that somebody has written"
    (first if ahead == "asking" else second).front.credential.load()
    assert first.http.post("/customer/bob/add", content=b"1").json() == 1
    assert len(second.worker.asked) == 1


def test_workers_of_one_node_learn_a_new_secret_from_each_other(tmp_path: Path) -> None:
    """One of them was started anew. Nothing else goes on, and the probe must not fail for ever."""
    folders = [tmp_path / f"worker-{index}" for index in range(2)]
    with (
        running(ScriptedWorker(), Place(0, 2), folders[0]) as first,
        running(ScriptedWorker(), Place(1, 2), folders[1]) as second,
    ):
        for site, folder in zip((first, second), folders, strict=True):
            at = site.at
            WorkerFile(
                name="shop", app="", pid=1, url=at.url, admin_url=at.admin_url, private_url=at.private_url, token=TOKEN
            ).write(folder)
        assert [site.admin.get("/ready").status_code for site in (first, second)] == [200, 200]
        first.log.secret = second.log.secret = b"another, that somebody has written"
        second.front.credential.load()
        until(lambda: first.admin.get("/ready").status_code == 200)
        assert second.admin.get("/ready").status_code == 200


def test_a_secret_that_cannot_be_looked_up_stays_as_it_was(open_site: OpenSite) -> None:
    site = open_site(ScriptedWorker())
    shown = site.shown
    site.log.out_of_reach = True
    assert httpx.get(site.at.private_url + READY_PATH).status_code == 401
    assert httpx.get(site.at.private_url + READY_PATH, headers=shown).status_code == 200


def test_strangers_have_the_secret_looked_up_once_at_a_time() -> None:
    """However long the log takes to answer: nothing heaps up."""
    looks, answer, now_s = list[float](), threading.Event(), [0.0]

    def look_up() -> bytes:
        looks.append(now_s[0])
        answer.wait(60)
        return b"a secret of the app"

    credential = Credential("shop", look_up, "http://127.0.0.1:1", clock=lambda: now_s[0])
    for _ in range(100):
        now_s[0] += 10
        credential.doubt("somebody asked")
    until(lambda: looks == [10.0])
    answer.set()
    until(lambda: credential.admits(f"Bearer {token(b'a secret of the app', 'http://127.0.0.1:1')}".encode()))

    def looked_again() -> bool:
        now_s[0] += 10
        credential.doubt("somebody asked")
        return len(looks) == 2

    until(looked_again)
    credential.close()


def test_beside_the_embedded_log_there_is_no_private_port(tmp_path: Path) -> None:
    before = listening(["self"])
    node = Node(make_app(), replace(Settings(), data_dir=tmp_path, port=0, admin_port=0, private_port=0))
    node.start()
    try:
        until(lambda: node.worker.ready)
        open_ = listening(["self"]) - before
        assert open_ == {urlsplit(node.url).port, urlsplit(node.admin_url).port} == set(node.ports)
        assert '"private_url": ""' in (tmp_path / "worker.json").read_text()
    finally:
        node.stop()
