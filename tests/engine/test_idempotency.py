"""An idempotency key stands for one request: with another body it is refused, and nothing runs."""

from typing import Any

import pytest

from odradek import App, Context, ObjectContext, TerminalError
from odradek_runtime.core.records.fingerprint import fingerprint
from odradek_runtime.core.records.request import Reply
from tests.engine.harness import Rig


def shop() -> App:
    app = App("shop", shards=4)
    account = app.object("account")

    @account.handler
    async def pay(ctx: ObjectContext, amount: dict[str, Any]) -> int:
        paid = ctx.get("paid", int, 0) + int(amount["of"])
        ctx.set("paid", paid)
        return paid

    @account.handler
    async def slow(ctx: ObjectContext, amount: int) -> int:
        await ctx.sleep(3600)
        return amount

    @account.handler
    async def upload(ctx: ObjectContext, body: bytes) -> int:
        return len(body)

    @account.handler
    async def close(ctx: ObjectContext) -> str:
        return "closed"

    @app.handler
    async def buys(ctx: Context, of: int) -> int | str:
        try:
            return await ctx.call(pay, {"of": of}, key="called", idempotency_key="once")
        except TerminalError as error:
            return f"{error.code} {error.metadata.get('invocationId', '')}"

    @app.handler
    async def sends(ctx: Context, of: int) -> None:
        ctx.send(pay, {"of": of}, key="sent", idempotency_key="once")

    assert all(callable(handler) for handler in (slow, upload, close, buys, sends))
    return app


def status(reply: Reply) -> str:
    return reply.status


@pytest.mark.parametrize("wait", [True, False])
def test_another_body_is_refused_before_and_after_the_end(disk_rig: Rig, wait: bool) -> None:
    rig, app = disk_rig, shop()
    rig.start(app)
    first = rig.ask("account/pay", {"of": 7, "for": "x"}, key="k", idempotency_key="once")
    assert first.value() == 7
    for _ in range(2):
        again = rig.ask("account/pay", {"of": 8, "for": "x"}, key="k", idempotency_key="once", wait=wait)
        assert (status(again.reply()), again.reply().invocation_id) == ("other_body", first.id)
        same = rig.ask("account/pay", b'{ "for":"x",  "of": 7 }', key="k", idempotency_key="once")
        assert same.value() == 7, "another spelling of the same value"
        rig.restart(app, crash=True)
    assert rig.ask("account/pay", {"of": 1}, key="k").value() == 8, "nothing else has run"

    running = rig.ask("account/slow", 1, key="s", idempotency_key="once", wait=False)
    assert status(running.reply()) == "accepted"
    assert status(rig.ask("account/slow", 2, key="s", idempotency_key="once", wait=wait).reply()) == "other_body"
    queued = rig.ask("account/slow", 3, key="s", idempotency_key="queued", wait=False)
    assert status(queued.reply()) == "accepted"
    assert status(rig.ask("account/slow", 4, key="s", idempotency_key="queued", wait=wait).reply()) == "other_body"
    delayed = rig.ask("account/pay", {"of": 1}, key="d", idempotency_key="delayed", wait=False, after_s=3600)
    assert status(delayed.reply()) == "accepted"
    assert status(rig.ask("account/pay", {"of": 2}, key="d", idempotency_key="delayed", wait=wait).reply()) == "other_body"


def test_raw_bodies_are_compared_byte_by_byte_and_absent_ones_not_at_all(rig: Rig) -> None:
    rig.start(shop())
    assert rig.ask("account/upload", b"[1]", key="k", idempotency_key="up").value() == 3
    assert status(rig.ask("account/upload", b"[1 ]", key="k", idempotency_key="up").reply()) == "other_body"
    assert rig.ask("account/close", key="k", idempotency_key="c").value() == "closed"
    assert rig.ask("account/close", b"null", key="k", idempotency_key="c").value() == "closed"


def test_a_call_with_the_key_of_another_is_told_and_a_send_runs_nothing(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    assert [rig.call("shop/buys", 5), rig.call("shop/buys", 5)] == [5, 5]
    refused = rig.call("shop/buys", 6)
    assert str(refused).startswith("409 inv_")
    for of in (5, 6, 5):
        rig.call("shop/sends", of)
    rig.settled(app)
    assert rig.state(app, "account", "called", "paid") == 5
    assert rig.state(app, "account", "sent", "paid") == 5


def test_what_was_begun_without_a_fingerprint_is_found_whatever_comes() -> None:
    handler = shop().handlers()["account/pay"]
    assert fingerprint(handler, b'{"of": 1}') == fingerprint(handler, b'{"of":1}') != fingerprint(handler, b'{"of":2}')
    assert fingerprint(handler, b"{") != fingerprint(handler, b'{"of":2}')
    assert fingerprint(None, b"x") == b""
