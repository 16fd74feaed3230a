"""A shop: what the tests of services and subscriptions register, and how they run it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from odradek import App, Context, ObjectContext, Topic
from odradek._callee import callee_of
from odradek._definition import Handler, Subscription


@dataclass
class Order:
    id: str
    amount: int


ORDERS = Topic[str, Order]("orders", str, Order)


def finish(started: tuple[Context, Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(_run(started[1]))


async def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def handler_of(fn: object) -> Handler:
    """What the engine finds of a decorated function."""
    handler = callee_of(fn)
    assert isinstance(handler, Handler)
    return handler


def object_app() -> tuple[App, Handler, Subscription]:
    app = App("shop")
    customer = app.object("customer")

    @customer.on(ORDERS)
    async def ordered(ctx: ObjectContext, order: Order) -> str:
        return f"{ctx.key} {order.id}"

    return app, handler_of(ordered), app.subscriptions()[0]
