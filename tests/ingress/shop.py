"""The app whose handlers the tests call."""

from __future__ import annotations

from dataclasses import dataclass

from odradek import App, Context, ObjectContext, SharedContext


@dataclass
class Order:
    id: str
    amount: int


def make_app() -> App:
    """A fresh one each time: an app is bound to its functions once."""
    app = App("shop")
    customer = app.object("customer")

    @app.handler
    async def pay(ctx: Context, order: Order) -> int:
        return order.amount

    @app.handler
    async def ping(ctx: Context) -> str:
        return "pong"

    @app.handler
    async def raw(ctx: Context, body: bytes) -> bytes:
        return body

    @app.handler(public=False)
    async def inner(ctx: Context) -> None: ...

    @customer.handler
    async def add(ctx: ObjectContext, amount: int) -> int:
        total = (ctx.get("spent", int) or 0) + amount
        ctx.set("spent", total)
        return total

    @customer.shared
    async def total(ctx: SharedContext) -> int:
        return ctx.get("spent", int) or 0

    assert all(callable(handler) for handler in (pay, ping, raw, inner, add, total))
    return app
