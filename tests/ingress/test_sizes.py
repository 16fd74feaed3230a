"""Requests that are too large for the log: 413, nothing started, and nobody beside them hears of it."""

import asyncio
from collections.abc import Callable

import pytest

from odradek_runtime.ingress.acceptance import CommandsTopic
from odradek_runtime.ingress.errors import HttpError
from odradek_runtime.log.port import Partition
from odradek_runtime.log_embedded import EmbeddedLog
from odradek_runtime.request import Failure, Invoke, Reply, Request
from odradek_runtime.routing import fresh_id
from tests.ingress.conftest import Site
from tests.ingress.engine import ScriptedEngine

OpenSite = Callable[..., Site]


def test_a_request_that_the_engine_refuses_has_no_id(open_site: OpenSite) -> None:
    def refuse(request: Request) -> Reply:
        return Reply("refused", request.invocation_id, failure=Failure(413, "shop/ping was not started: its entry is too large"))

    reply = open_site(ScriptedEngine(rule=refuse)).http.post("/shop/ping")
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
    assert log.offsets(Partition("shop.commands", 0))[1] == 3
    log.close()


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_log_that_cannot_be_asked_is_503(size: int) -> None:
    commands = CommandsTopic("shop", lambda: EmbeddedLog(None, fsync=False).publisher("x"), EmbeddedLog(None, fsync=False).topic)
    request = Invoke(fresh_id(None, b"0" * 12, hash_=0), "shop/take", b"", b"x" * size, {}, wait=False)
    with pytest.raises(HttpError) as refused:
        asyncio.run(commands.accept(request, 0))
    assert refused.value.code == 503
