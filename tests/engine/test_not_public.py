"""An id shows nothing of a handler that is not public: neither a result, nor a failure, nor that there is an invocation."""

import os
from datetime import timedelta

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.core.records.request import Reply
from odradek_runtime.routing import fresh_id
from tests.engine.harness import Rig

STATES = ("running", "inboxed", "scheduled", "completed", "failed", "paused", "retrying")
CHILDREN = {"completed": "done", "failed": "fails", "paused": "pauses", "retrying": "retries"}

ONCE = RetryPolicy(max_attempts=1)


def vault(*, public: bool = False, without: bool = False) -> App:
    """An app whose public `begin` starts invocations of handlers that are not, or in `later` code are, or are gone."""
    app = App("vault", shards=2)
    safe = app.object("safe")

    @app.handler
    async def begin(ctx: Context, state: str) -> str:
        if state in CHILDREN:
            call = ctx.call(f"vault/{CHILDREN[state]}", idempotency_key="k", returns=str)
            return call.invocation_id
        if state == "scheduled":
            return ctx.send("safe/opened", key="s", delay=timedelta(days=1))
        first = ctx.send("safe/opened", key=state)
        return ctx.send("safe/opened", key=state) if state == "inboxed" else first

    if not without:

        @safe.handler(public=public)
        async def opened(ctx: ObjectContext) -> str:
            await ctx.sleep(86_400)
            return "secret"

        @app.handler(public=public)
        async def done(ctx: Context) -> str:
            return "secret"

        @app.handler(public=public)
        async def fails(ctx: Context) -> str:
            raise TerminalError("secret", code=422)

        @app.handler(public=public, on_exhausted="pause", retry=ONCE)
        async def pauses(ctx: Context) -> str:
            raise ValueError("secret")

        @app.handler(public=public)
        async def retries(ctx: Context) -> str:
            raise ValueError("secret")

        assert all(callable(handler) for handler in (opened, done, fails, pauses, retries))
    assert callable(begin)
    return app


def child(rig: Rig, state: str) -> str:
    """The id of an invocation that is in this state, as the parent's result gives it."""
    id_ = str(rig.call("vault/begin", state))
    status = {"retrying": "backing_off"}.get(state, state)
    rig.until(lambda: status in {one.status for one in rig.invocations(vault()) if one.id == id_})
    return id_


def answers(rig: Rig, id_: str) -> list[Reply]:
    return [rig.attach(id_, wait=wait).reply() for wait in (True, False)]


@pytest.mark.parametrize("state", STATES)
def test_by_its_id_nothing_is_seen(rig: Rig, state: str) -> None:
    rig.start(vault())
    id_, none = child(rig, state), fresh_id(None, os.urandom(12))
    assert answers(rig, id_) == [Reply("not_found", id_)] * 2
    assert answers(rig, none) == [Reply("not_found", none)] * 2


@pytest.mark.parametrize("state", ["running", "completed"])
def test_the_code_at_hand_says_what_is_public(rig: Rig, state: str) -> None:
    rig.start(vault(public=True))
    id_ = child(rig, state)
    shown = rig.attach(id_, wait=False).reply()
    assert shown.status == state
    rig.restart(vault())
    assert answers(rig, id_) == [Reply("not_found", id_)] * 2
    rig.restart(vault(public=True))
    assert rig.attach(id_, wait=False).reply() == shown


@pytest.mark.parametrize("state", ["running", "completed"])
def test_a_handler_that_is_gone_is_not_public(rig: Rig, state: str) -> None:
    rig.start(vault(public=True))
    id_ = child(rig, state)
    rig.restart(vault(without=True))
    assert answers(rig, id_) == [Reply("not_found", id_)] * 2


def test_no_request_starts_one(rig: Rig) -> None:
    """Whoever posts it: a worker whose code still has it as public, or somebody who came to the private port."""
    app = vault()
    rig.start(app)
    for asked in (rig.ask("vault/done"), rig.ask("vault/done", wait=False), rig.ask("vault/done", idempotency_key="i")):
        assert asked.reply() == Reply("not_found", asked.id)
    assert [one for one in rig.invocations(app) if one.target == "vault/done"] == []


def test_a_repeated_request_does_not_show_one(rig: Rig) -> None:
    rig.start(vault(public=True))
    asked = rig.ask("vault/done", idempotency_key="i")
    assert asked.value() == "secret"
    rig.restart(vault())
    assert rig.post_again(asked).reply() == Reply("not_found", asked.id)
