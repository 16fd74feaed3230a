"""Restate's contender: the handlers of `bench.apps.waits` with Restate's Python SDK; run by hypercorn from an own environment.

An event's step writes its output record, without waiting for the broker's word: Restate writes to no topic of its own.
"""

import asyncio
import os

import restate

counter = restate.VirtualObject("counter")
work = restate.Service("work")
customer = restate.VirtualObject("customer")


@counter.handler()
async def add(ctx: restate.ObjectContext) -> int:
    count = (await ctx.get("count", type_hint=int) or 0) + 1
    ctx.set("count", count)
    return count


async def plus_one(number: int) -> int:
    return number + 1


@work.handler()
async def three_steps(ctx: restate.Context) -> int:
    first = await ctx.run_typed("first", plus_one, number=0)
    second = await ctx.run_typed("second", plus_one, number=first)
    return await ctx.run_typed("third", plus_one, number=second)


@work.handler()
async def one(ctx: restate.Context, number: int) -> int:
    return number


@work.handler()
async def spread(ctx: restate.Context, calls: int) -> int:
    asked = [ctx.service_call(one, arg=number) for number in range(calls)]
    await restate.gather(*asked)
    return sum([await call for call in asked])


if "BENCH_BOOTSTRAP_SERVERS" in os.environ:
    from confluent_kafka import Producer

    output = os.environ["BENCH_OUTPUT"]
    producer = Producer({"bootstrap.servers": os.environ["BENCH_BOOTSTRAP_SERVERS"], "partitioner": "murmur2_random"})


async def tell(key: str, count: int, step_s: float) -> None:
    if step_s:
        await asyncio.sleep(step_s)
    producer.produce(output, b'{"count":%d}' % count, key.encode())
    producer.poll(0)


@customer.handler()
async def on_event(ctx: restate.ObjectContext, event: dict) -> None:
    count = (await ctx.get("count", type_hint=int) or 0) + 1
    await ctx.run_typed("tell", tell, key=ctx.key(), count=count, step_s=event.get("step_s", 0.0))
    ctx.set("count", count)


app = restate.app([counter, work, customer])
