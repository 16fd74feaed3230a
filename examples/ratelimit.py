"""Calls to somebody else's API, five a second for each customer: what comes faster stands in line, durably, in its order.

    odradek dev examples.ratelimit:app
    curl -s -X POST localhost:8080/sync/contacts -d '{"ann": ["a1", "a2", "a3"], "bob": ["b1", ""]}'

A customer is a key of the object `customer`: one call at a time, so that each sees when the last one was; no customer waits for
another. The API is `crm` of `sandbox.py`, which notes when it was called (`curl -X POST localhost:8080/crm/ann/calls`). For another
API take the `include` out and set CRM_URL.
"""

import asyncio
import os
from datetime import datetime, timedelta

import httpx

from odradek import App, Context, ObjectContext, RetryableError, RetryPolicy, State, TerminalError, idempotency_key, step

CRM_URL = os.environ.get("CRM_URL", "http://localhost:8080/crm")
APART = timedelta(milliseconds=200)

app = App("sync", include=["examples.sandbox:crm"])
customer = app.object("customer")
free_at = State("free_at", datetime)


@step(retry=RetryPolicy(max_attempts=8, max_delay=60))
async def upload(who: str, contact: str) -> int:
    async with httpx.AsyncClient(timeout=10) as http:
        # The key says that it is the same call, should the step run twice.
        reply = await http.post(f"{CRM_URL}/{who}/add", json=contact, headers={"idempotency-key": idempotency_key()})
    if reply.status_code == 429:
        raise RetryableError("too fast", retry_after=float(reply.headers.get("retry-after", "1")))
    if 400 <= reply.status_code < 500:
        raise TerminalError(f"{contact!r} is refused: {reply.text[:200]}", code=422)
    return int(reply.raise_for_status().json())


@customer.handler
async def push(ctx: ObjectContext, contact: str) -> int:
    wait = (ctx.get(free_at) or ctx.now()) - ctx.now()
    if wait > timedelta():
        await ctx.sleep(wait)  # holds this key, and no other
    ctx.set(free_at, ctx.now() + APART)
    number = await upload(ctx.key, contact)
    ctx.set(free_at, ctx.now() + APART)  # it may have taken its time
    return number


@app.handler
async def contacts(ctx: Context, by_customer: dict[str, list[str]]) -> dict[str, int]:
    """Push them all, and say how many were taken; `/send` does it in the background."""
    calls = [ctx.call(push, one, key=who) for who, theirs in by_customer.items() for one in theirs]  # all stand in line now
    results = await asyncio.gather(*calls, return_exceptions=True)
    for refused in (result for result in results if isinstance(result, TerminalError)):
        ctx.logger.warning("%s", refused.message)
    taken = sum(isinstance(result, int) for result in results)
    return {"taken": taken, "refused": len(results) - taken}
