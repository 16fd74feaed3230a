"""Requests that are too large for the log: 413, nothing started, and nobody beside them hears of it."""

import asyncio
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.request import Failure, Invoke, Reply, Request
from odradek_runtime.http.ingress.acceptance import CommandsTopic
from odradek_runtime.http.ingress.errors import HttpError
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Partition
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.node.node import Node
from odradek_runtime.routing import fresh_id
from tests.ingress.conftest import Site, until
from tests.ingress.scripted import ScriptedWorker

OpenSite = Callable[..., Site]
OLD_LIMIT = 1_048_588


def test_a_request_that_the_engine_refuses_has_no_id(open_site: OpenSite) -> None:
    def refuse(request: Request) -> Reply:
        return Reply("refused", request.invocation_id, failure=Failure(413, "shop/ping was not started: its entry is too large"))

    reply = open_site(ScriptedWorker(rule=refuse)).http.post("/shop/ping")
    assert reply.status_code == 413
    assert "was not started" in reply.json()["message"]
    assert "x-odradek-id" not in reply.headers


def test_without_an_owner_a_request_too_large_fails_alone() -> None:
    """They become records of one transaction: a broker would refuse all of them."""
    log = EmbeddedLog(None, fsync=False)
    log.create_topic("shop.commands", 1, {"max.message.bytes": "100000"})

    def asked(size: int) -> Invoke:
        return Invoke(fresh_id(None, b"%012d" % size, hash_=0), "shop/take", b"", b"x" * size, {}, wait=False)

    async def accept() -> list[object]:
        commands = CommandsTopic("shop", lambda: log.publisher("ingress"), log.topic)
        sizes = (10, 90_000, 100_000, 20)
        replies = await asyncio.gather(*(commands.accept(asked(size), 0) for size in sizes), return_exceptions=True)
        await commands.close()
        return list(replies)

    replies = asyncio.run(accept())
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == ["accepted"] * 3
    (refused,) = (reply for reply in replies if isinstance(reply, HttpError))
    assert refused.code == 413
    assert "over the limit of shop.commands, 100000 bytes (its body 100000, its key 0, its headers 0 bytes)" in refused.message
    assert log.offsets(Partition("shop.commands", 0))[1] == 3
    log.close()


def make_app(name: str) -> App:
    app = App(name, shards=2)
    box = app.object("box")

    @box.handler
    async def put(ctx: ObjectContext, body: bytes) -> int:
        return len(body)

    @box.handler
    async def hold(ctx: ObjectContext, body: bytes) -> int:
        await ctx.sleep(0.01)
        return len(body)

    assert callable(put)
    assert callable(hold)
    return app


@contextmanager
def older(name: str, settings: Settings) -> Generator[tuple[Node, httpx.Client]]:
    """A node whose topics were made before topics had limits of their own."""
    log = open_log(settings)
    config = {"max.message.bytes": str(OLD_LIMIT)}
    log.create_topic(f"{name}.commands", 2, config | {"retention.ms": "-1", "retention.bytes": "-1"})
    for topic in ("journal", "state"):
        log.create_topic(f"{name}.{topic}", 2, config | {"cleanup.policy": "compact"})
    log.create_topic(f"{name}.dead-letters", 2, config)
    log.close()
    node = Node(make_app(name), settings)
    node.start()
    try:
        until(lambda: node.worker.ready)
        with httpx.Client(base_url=node.url, timeout=60, trust_env=False) as http:
            yield node, http
    finally:
        node.stop()


@pytest.fixture(params=["embedded", "kafka"])
def log_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    servers: str = request.getfixturevalue("kafka") if request.param == "kafka" else ""
    return replace(Settings(), bootstrap_servers=servers, data_dir=tmp_path, port=0, admin_port=0)


def test_key_headers_and_body_count_together(topic_prefix: str, log_settings: Settings) -> None:
    """Each of them alone is small enough. What they come to is refused before it is written: no epoch fails, and others go on."""
    with older(topic_prefix, log_settings) as (node, http):
        for handler in ("put", "hold"):
            for suffix in ("", "/send"):
                large = http.post(
                    f"/box/{'k' * 44_000}/{handler}{suffix}", content=os.urandom(1_000_000), headers={"x-h": "h" * 16_000}
                )
                assert (large.status_code, "x-odradek-id" in large.headers) == (413, False)
                said = large.json()["message"]
                assert f"over the limit of {topic_prefix}.journal, {OLD_LIMIT} bytes (its body 1000000, its key 44000, its" in said
        for size in range(OLD_LIMIT - 61_500, OLD_LIMIT - 60_000, 100):  # about where it begins to fit
            reply = http.post(f"/box/{'k' * 44_000}/hold", content=os.urandom(size), headers={"x-h": "h" * 16_000})
            assert reply.status_code in {200, 413}
            assert http.post("/box/other/put", content=b"1").json() == 1
        assert node.worker.metrics.epochs_refused == 0
        assert node.worker.metrics.dead_letters == 0


def test_many_small_headers_count(topic_prefix: str, log_settings: Settings) -> None:
    with older(topic_prefix, log_settings) as (node, http):
        headers = {f"x-{n}": "" for n in range(2_500)}
        for size in range(OLD_LIMIT - 70_000, OLD_LIMIT - 10_000, 2_500):
            assert http.post("/box/a/hold", content=os.urandom(size), headers=headers).status_code in {200, 413}
        assert node.worker.metrics.epochs_refused == 0


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_log_that_cannot_be_asked_is_503(size: int) -> None:
    commands = CommandsTopic("shop", lambda: EmbeddedLog(None, fsync=False).publisher("x"), EmbeddedLog(None, fsync=False).topic)
    request = Invoke(fresh_id(None, b"0" * 12, hash_=0), "shop/take", b"", b"x" * size, {}, wait=False)
    with pytest.raises(HttpError) as refused:
        asyncio.run(commands.accept(request, 0))
    assert refused.value.code == 503
