"""Handlers for the tests of plain asyncio: what such a test asks of a worker, and steps that take their time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from odradek import App, Context, TerminalError, step
from odradek_runtime.core.records.request import Failure
from tests.engine.harness import PATIENCE_S, Rig

Body = Callable[[Context], Awaitable[Any]]


@step
async def after(ms: int, value: Any = None) -> Any:
    """A step that takes so long."""
    await asyncio.sleep(ms / 1000)
    return value


@step
async def fails(ms: int, what: str) -> Any:
    """One that fails for good."""
    await asyncio.sleep(ms / 1000)
    raise TerminalError(what, code=409)


async def nap(s: float, value: Any = None) -> Any:
    """A helper that sleeps by asyncio's own word."""
    await asyncio.sleep(s)
    return value


def app_of(body: Body) -> App:
    """An app named `aio` whose handler does this."""
    app = App("aio", shards=1)

    @app.handler
    async def go(ctx: Context) -> Any:
        return await body(ctx)

    @app.handler
    async def echo(ctx: Context, value: int) -> int:
        return value

    return app


def outcome(rig: Rig, body: Body, *, passing_s: float = 0.0) -> Any:
    """What a handler that does this returns, or how it fails; nothing of it is left in the journal.

    `passing_s`: so much time passes, again and again, until it has ended.
    """
    app = app_of(body)
    rig.start(app)
    asked = rig.ask("aio/go")
    give_up = time.monotonic() + PATIENCE_S
    while passing_s and not asked.replies and time.monotonic() < give_up:
        rig.later(passing_s)
        time.sleep(0.005)
    reply = asked.reply()
    assert rig.paused(app) == []
    rig.settled(app)
    assert left_of(rig, app) == []
    return reply.failure or (msgspec.json.decode(reply.value) if reply.value else None)


def left_of(rig: Rig, app: App) -> list[bytes]:
    """Journals and timers of operations: what has ended has none."""
    return [key for key in rig.journal(app) if key[:1] == b"j" or (key[:1] == b"t" and key[-4:] < b"\x80")]


def failure(rig: Rig, body: Body, **more: Any) -> Failure:
    """How a handler that does this fails."""
    found = outcome(rig, body, **more)
    assert isinstance(found, Failure), found
    return found
