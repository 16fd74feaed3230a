"""A shop: each customer's orders are added up and passed on."""

from dataclasses import dataclass

from odradek import App, ObjectContext, SharedContext, State


@dataclass
class Order:
    id: str
    amount: int


def shop(shards: int = 2) -> App:
    """Adds up what each customer spends and passes each order on."""
    app = App("shop", shards=shards)
    orders, invoices = app.topic("orders", value=Order), app.topic("invoices", value=Order)
    customer, spent = app.object("customer"), State("spent", int, default=0)

    @customer.on(orders)
    async def ordered(ctx: ObjectContext, order: Order) -> None:
        ctx.set(spent, ctx.get(spent) + order.amount)
        ctx.publish(invoices, order, key=ctx.key)

    @customer.shared
    async def total(ctx: SharedContext) -> int:
        return ctx.get(spent)

    return app
