"""Stands for what somebody else runs, so that the examples run by themselves: a payment provider, and a CRM with an API.

Both are handlers, included by the apps of `webhook.py` and `ratelimit.py`, which call them over HTTP, as they would call others.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import datetime

import httpx
import msgspec

from odradek import Context, Object, ObjectContext, Service, SharedContext, State, TerminalError, step

WEBHOOK_URL = os.environ.get("WEBHOOK_URL", "http://localhost:8080/payments/webhook")
SHARED = os.environ.get("WEBHOOK_SECRET", "only a test").encode()

provider = Service("provider")
crm = Object("crm")
calls_at = State("calls_at", list[datetime], default=list)


@dataclass
class Intent:
    order: str
    cents: int
    awakeable: str


@step
async def call_back(intent: Intent) -> None:
    status = "succeeded" if intent.cents <= 100_000 else "declined"
    body = msgspec.json.encode({"order": intent.order, "status": status, "awakeable": intent.awakeable})
    async with httpx.AsyncClient(timeout=10) as http:
        for _ in range(2):  # providers do call twice
            signature = hmac.new(SHARED, body, hashlib.sha256).hexdigest()
            (await http.post(WEBHOOK_URL, content=body, headers={"x-signature": signature})).raise_for_status()


@provider.handler
async def create(ctx: Context, intent: Intent) -> str:
    """Accept a payment, and confirm or decline it two seconds later; of 1 cent nothing more is ever heard."""
    if intent.cents < 1:
        raise TerminalError("cents must be positive", code=422)
    if intent.cents > 1:
        ctx.send(confirm, intent, delay=2)
    return f"pi_{ctx.random.randrange(10**8):08d}"


@provider.handler(public=False)
async def confirm(ctx: Context, intent: Intent) -> None:
    await call_back(intent)


@provider.handler
async def cancel(ctx: Context, intent_id: str) -> None:
    ctx.logger.info("%s is cancelled", intent_id)


@crm.handler
async def add(ctx: ObjectContext, contact: str) -> int:
    if not contact:
        raise TerminalError("an empty contact", code=422)
    ctx.set(calls_at, [*ctx.get(calls_at), ctx.now()])
    return len(ctx.get(calls_at))


@crm.shared
async def calls(ctx: SharedContext) -> list[datetime]:
    """When it was called."""
    return ctx.get(calls_at)
