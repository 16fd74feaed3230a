"""A payment that is confirmed by a webhook: the handler waits for it as long as it takes, and cancels if nobody pays.

    odradek dev examples.webhook:app
    curl -s -X POST localhost:8080/payments/pay -d '{"id": "o1", "cents": 4200}'

It answers after two seconds, when the provider has called `/payments/webhook`, whoever is killed meanwhile. The provider is that of
`sandbox.py`: it declines more than 100,000 cents, and is never heard of again about 1 cent. For another take the `include` out and
set PROVIDER_URL. PAYMENT_PATIENCE_S is how long to wait, 900 seconds if not set.
"""

import asyncio
import hashlib
import hmac
import os
from dataclasses import asdict, dataclass

import httpx
import msgspec

from odradek import App, Context, RetryPolicy, TerminalError, idempotency_key, step

PROVIDER_URL = os.environ.get("PROVIDER_URL", "http://localhost:8080/provider")
SHARED = os.environ.get("WEBHOOK_SECRET", "only a test").encode()
PATIENCE_S = float(os.environ.get("PAYMENT_PATIENCE_S", "900"))


@dataclass
class Order:
    id: str
    cents: int


@dataclass
class Event:
    order: str
    status: str
    awakeable: str


app = App("payments", include=["examples.sandbox:provider"])


async def ask(what: str, body: object) -> str:
    """Call the provider; the key says that it is the same call, should the step run twice."""
    async with httpx.AsyncClient(timeout=10) as http:
        reply = await http.post(f"{PROVIDER_URL}/{what}", json=body, headers={"idempotency-key": idempotency_key()})
    if 400 <= reply.status_code < 500 and reply.status_code != 429:
        raise TerminalError(f"the provider refuses: {reply.text[:200]}", code=502)  # asking again does not help
    return str(reply.raise_for_status().json())


@step(retry=RetryPolicy(max_attempts=10))
async def create_intent(order: Order, awakeable: str) -> str:
    return await ask("create", {"order": order.id, "cents": order.cents, "awakeable": awakeable})


@step(retry=RetryPolicy(max_attempts=10))
async def cancel_intent(intent: str) -> None:
    await ask("cancel", intent)


@app.handler
async def pay(ctx: Context, order: Order) -> str:
    hook = ctx.awakeable(Event)
    intent = await create_intent(order, hook.id)
    try:
        async with asyncio.timeout(PATIENCE_S):  # a timer of the log: it runs while no worker does
            event = await hook
    except (TimeoutError, asyncio.CancelledError):
        await cancel_intent(intent)
        raise TerminalError(f"{order.id} was not paid", code=504, metadata={"intent": intent}) from None
    if event.status != "succeeded":
        raise TerminalError(f"the payment of {order.id} was {event.status}", code=402, metadata=asdict(event))
    return f"{order.id} is paid"


@app.handler
async def webhook(ctx: Context, body: bytes) -> None:
    right = hmac.new(SHARED, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(ctx.headers.get("x-signature", ""), right):
        raise TerminalError("the signature is not right", code=401)
    try:
        event = msgspec.json.decode(body, type=Event)
    except msgspec.ValidationError as error:
        raise TerminalError(str(error), code=400) from error
    ctx.resolve(event.awakeable, event)  # the first is final: it may be delivered twice
