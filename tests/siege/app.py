"""The app under siege: honest work that can be counted, and doors of every kind for those who are not honest."""

from __future__ import annotations

import os

from odradek import App, Context, ObjectContext, RetryPolicy, SharedContext, State, step

NAME = os.environ.get("SIEGE_NAME", "siege")
SHOWN_TO_NOBODY = "postgres://siege:hunter2@db/orders"
"""Stands in the text of an exception. No client may ever see it."""

app = App(NAME, shards=4)
doors = app.service("doors")
tally = app.object("tally")
records = app.topic(f"{NAME}-records", value=bytes)
numbers = app.topic(f"{NAME}-numbers", value=int)
seen = app.topic(f"{NAME}-seen", value=str)
count = State("count", int, default=0)


@step
async def double(n: int) -> int:
    return 2 * n


@tally.handler
async def add(ctx: ObjectContext, n: int) -> int:
    await double(n)
    ctx.set(count, ctx.get(count) + n)
    return ctx.get(count)


@tally.shared
async def total(ctx: SharedContext) -> int:
    return ctx.get(count)


@tally.on(numbers)
async def numbered(ctx: ObjectContext, n: int) -> None:
    ctx.publish(seen, f"{ctx.record.topic}[{ctx.record.partition}]@{ctx.record.offset}" if ctx.record else "")


@doors.on(records)
async def recorded(ctx: Context, value: bytes) -> None:
    record = ctx.record
    assert record is not None
    await ctx.sleep(0.001)
    ctx.publish(seen, f"{record.topic}[{record.partition}]@{record.offset}", headers={"saw": repr(record)[:2_000]})


@doors.handler
async def raw(ctx: Context, body: bytes) -> int:
    return len(body)


@doors.handler
async def nap(ctx: Context, body: bytes) -> int:
    await ctx.sleep(1.0)
    return len(body)


@doors.handler(retry=RetryPolicy(max_attempts=1))
async def fails(ctx: Context, n: int) -> int:
    raise OSError(SHOWN_TO_NOBODY)


@doors.handler(public=False)
async def hidden(ctx: Context, n: int) -> str:
    return SHOWN_TO_NOBODY
