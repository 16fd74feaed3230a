"""The app whose routes are asked: a handler of each kind that HTTP can reach, of each kind of argument and result."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from odradek import App, Context, ObjectContext, SharedContext, State, TerminalError


@dataclass
class Line:
    sku: str
    count: int
    price: float | None = None


@dataclass
class Order:
    id: str
    lines: list[Line]
    at: dt.datetime | None = None


app = App("routes", shards=4)
orders = app.topic("orders", value=Order)
customer = app.object("customer")
spent = State("spent", int, default=0)


@app.handler
async def place(ctx: Context, order: Order) -> int:
    """A topic is written to."""
    ctx.publish(orders, order, key=order.id)
    return len(order.lines)


@app.handler
async def anything(ctx: Context, value: dict[str, object]) -> dict[str, object]:
    """What came comes back."""
    return value


@app.handler
async def raw(ctx: Context, body: bytes) -> bytes:
    """Bytes."""
    return body


@app.handler
async def nothing(ctx: Context) -> None:
    """Neither argument nor result."""


@app.handler
async def fails(ctx: Context, code: int) -> None:
    """With any code."""
    raise TerminalError("as asked", code=code)


async def told() -> str:
    """A step."""
    return "told"


@customer.handler
async def pay(ctx: ObjectContext, cents: int) -> int:
    """State, and a step."""
    ctx.set(spent, ctx.get(spent) + cents)
    await ctx.run(told)
    return ctx.get(spent)


@customer.shared
async def total(ctx: SharedContext) -> int:
    """State that is read."""
    return ctx.get(spent)
