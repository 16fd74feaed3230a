"""The odradek contender of `bench.waits`: an object that counts, three steps, a fan-out; and an event with a step each.

The topics of the second app come from the environment because every run of the benchmark has its own; so does whether the steps
may run once too often.
"""

import asyncio
import os
from dataclasses import dataclass

from bench.apps.keyed_count import Counted, Event
from odradek import App, Context, ObjectContext, State, step

IDEMPOTENT = bool(os.environ.get("BENCH_IDEMPOTENT"))

app = App(os.environ.get("BENCH_APP", "bench-waits"))
counter = app.object("counter")
work = app.service("work")
count = State("count", int, default=0)


@counter.handler
async def add(ctx: ObjectContext) -> int:
    counted = ctx.get(count) + 1
    ctx.set(count, counted)
    return counted


@step(idempotent=IDEMPOTENT)
async def plus_one(number: int) -> int:
    return number + 1


@work.handler
async def three_steps(_: Context) -> int:
    first = await plus_one(0)
    second = await plus_one(first)
    return await plus_one(second)


@work.handler
async def one(_: Context, number: int) -> int:
    return number


@work.handler
async def spread(ctx: Context, calls: int) -> int:
    asked = [ctx.call(one, number) for number in range(calls)]
    return sum([await call for call in asked])


@dataclass
class Order(Event):
    """An event whose step waits for so long, as one does that asks somebody."""

    step_s: float = 0.0


events_app = App(os.environ.get("BENCH_APP", "bench-waits"))
events = events_app.topic(os.environ.get("BENCH_INPUT", "bench-events"), value=Order)
counted_events = events_app.topic(os.environ.get("BENCH_OUTPUT", "bench-counted"), value=Counted)


@step(idempotent=IDEMPOTENT)
async def priced(event: Order) -> float:
    if event.step_s:
        await asyncio.sleep(event.step_s)
    return event.amount * 1.19


@events_app.object("customer").on(events)
async def on_event(ctx: ObjectContext, event: Order) -> None:
    await priced(event)
    seen = ctx.get(count) + 1
    ctx.set(count, seen)
    ctx.publish(counted_events, Counted(seen), key=ctx.key)
