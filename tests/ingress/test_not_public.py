"""Whole nodes on both logs: an id shows nothing of a handler that is not public, at whichever worker it is asked for."""

from __future__ import annotations

import hmac
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from odradek import App, Context, ObjectContext, SharedContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.configuration.worker_file import read_worker_file
from odradek_runtime.core.records.request import Attach, Invoke, Request
from odradek_runtime.http.ingress import wire
from odradek_runtime.node.node import Node
from odradek_runtime.routing import derived_id, fresh_id, key_hash, request_id
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

KEYS = [f"k{n}" for n in range(6)]
"""On all shards, and so at all workers."""


def make_app(name: str) -> App:
    app = App(name, shards=4)
    safe, parent = app.object("safe"), app.service("parent")

    @safe.handler(public=False)
    async def told(ctx: ObjectContext) -> str:
        ctx.set("told", (ctx.get("told", int) or 0) + 1)
        return "secret"

    @safe.handler(public=False)
    async def held(ctx: ObjectContext) -> str:
        await ctx.sleep(86_400)
        return "secret"

    @safe.shared
    async def count(ctx: SharedContext) -> int:
        return ctx.get("told", int) or 0

    @parent.handler
    async def tell(ctx: Context, key: str) -> int:
        return len(await ctx.call(told, key=key, idempotency_key="k"))

    @parent.handler
    async def hold(ctx: Context, key: str) -> None:
        ctx.call(held, key=key)

    assert all(callable(handler) for handler in (told, held, count, tell, hold))
    return app


@pytest.fixture(params=["embedded", "kafka"])
def nodes(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> Generator[list[Node]]:
    """One on the embedded log, two with two shards each on Kafka."""
    settings = replace(Settings(), port=0, admin_port=0)
    if request.param == "kafka":
        settings = replace(settings, bootstrap_servers=request.getfixturevalue("kafka"))
    name = topic_prefix.rstrip(".-_")
    with ExitStack() as stack:
        started: list[Node] = []
        for folder in ("a", "b")[: 2 if settings.bootstrap_servers else 1]:
            node = Node(make_app(name), replace(settings, data_dir=tmp_path / folder))
            stack.callback(node.stop)
            node.start()
            started.append(node)
        owned = 4 // len(started)
        until(lambda: all(len(node.worker.snapshot().get("shards_owned", ())) == owned and node.worker.ready for node in started))
        yield started


def seen(node: Node, id_: str) -> list[tuple[int, str]]:
    """What is said of an invocation, with `ID` in the place of its id."""
    paths = [f"/odradek/invocations/{id_}/{how}" for how in ("attach", "output")]
    replies = [httpx.get(node.url + path, timeout=20) for path in paths]
    headers = [sorted(set(reply.headers) - {"content-length"}) for reply in replies]
    return [(reply.status_code, f"{names} {reply.text.replace(id_, 'ID')}") for reply, names in zip(replies, headers, strict=True)]


def test_an_id_shows_nothing_of_what_is_not_public(nodes: list[Node]) -> None:
    ids = list[str]()
    for key in KEYS:
        assert httpx.post(f"{nodes[0].url}/parent/tell", json=key, timeout=20).json() == 6
        parent = httpx.post(f"{nodes[0].url}/parent/hold", json=key, timeout=20).headers["x-odradek-id"]
        ids += [request_id("safe/told", key.encode(), "k")]  # ended and kept
        ids += [derived_id(key_hash(key.encode()), parent, ref) for ref in range(3)]  # one of them runs
    for node in nodes:
        nothing = seen(node, fresh_id(None, os.urandom(12)))
        assert [code for code, _ in nothing] == [404, 404]
        for id_ in ids:
            assert seen(node, id_) == nothing


def test_nobody_runs_or_reads_anything_at_the_private_port(nodes: list[Node], tmp_path: Path) -> None:
    """On the embedded log there is none. On Kafka it knows the app's workers, and nobody else."""
    files = [read_worker_file(tmp_path / folder) for folder in ("a", "b")]
    urls = [file.private_url for file in files if file is not None and file.private_url]
    assert len(urls) == (len(nodes) if len(nodes) > 1 else 0)
    assert httpx.post(f"{nodes[0].url}/parent/tell", json="k0", timeout=20).json() == 6
    told = request_id("safe/told", b"k0", "k")
    requests: list[Request] = [Attach(told, wait=True), Attach(told, wait=False)]
    requests += [Invoke(fresh_id(b"k0", os.urandom(12)), "safe/told", b"k0", b"", {}, wait=wait) for wait in (True, False)]
    requests += [Invoke(fresh_id(b"k0", os.urandom(12)), "safe/count", b"k0", b"", {}, wait=True)]
    app = nodes[0].worker.app.name
    for url in urls:
        wrong = {"authorization": "Bearer " + hmac.new(b"0" * 64, f"{app} {url}".encode(), "sha256").hexdigest()}
        for request in requests:
            for headers in ({}, wrong):
                reply = httpx.post(url + wire.ASK_PATH, content=wire.encode_request(request), headers=headers, timeout=20)
                assert (reply.status_code, b"secret" in reply.content) == (401, False)
    for node in nodes:  # each of them passes on what is the other's
        assert [httpx.post(f"{node.url}/safe/{key}/count", timeout=20).json() for key in KEYS] == [1, 0, 0, 0, 0, 0]
