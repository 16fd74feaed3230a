"""Exactly-once enrichment: each order gets its customer's name and running total, whatever dies, and whichever comes first.

    odradek dev examples.enrich:app
    echo '{"id": "o1", "customer": "c1", "cents": 250}' | odradek publish orders - --format jsonl --key id

Nothing comes out yet: who is c1? `echo '{"id": "c1", "name": "Ann"}' | odradek publish customers - --format jsonl --key id`, and
`odradek consume enriched` shows o1 with Ann's name. Orders of customers that nobody has told of wait in the state of their key;
those that can't be right are in the topic `orders-refused`, each with the reason in its headers.
"""

from dataclasses import dataclass

from odradek import App, ObjectContext, SharedContext, State, TerminalError

WAITING_AT_MOST = 100


@dataclass
class Customer:
    id: str
    name: str


@dataclass
class Order:
    id: str
    customer: str
    cents: int


@dataclass
class Enriched:
    order: str
    name: str
    cents: int
    total_cents: int
    number: int  # of the customer's orders


app = App("enrichment")
customers = app.topic("customers", value=Customer)
orders = app.topic("orders", value=Order)
enriched = app.topic("enriched", value=Enriched)

account = app.object("account")
name = State("name", str)
waiting = State("waiting", list[Order], default=list)
total_cents = State("total_cents", int, default=0)
count = State("count", int, default=0)


@account.on(customers)
async def introduced(ctx: ObjectContext, customer: Customer) -> None:
    ctx.set(name, customer.name)
    for order in ctx.get(waiting):
        publish(ctx, order, customer.name)
    ctx.clear(waiting)


@account.on(orders, key=lambda order: order.customer, dead_letter="orders-refused")
async def ordered(ctx: ObjectContext, order: Order) -> None:
    if order.cents <= 0:
        raise TerminalError(f"an order of {order.cents} cents", code=422, metadata={"order": order.id})
    known = ctx.get(name)
    if known is not None:
        publish(ctx, order, known)
        return
    ahead = ctx.get(waiting)
    if len(ahead) >= WAITING_AT_MOST:
        raise TerminalError(f"{len(ahead)} orders wait for customer {ctx.key}", code=429, metadata={"order": order.id})
    ctx.set(waiting, [*ahead, order])


def publish(ctx: ObjectContext, order: Order, known: str) -> None:
    """State, output and the offset of what was read are one transaction: `number` has no gap, and none comes twice."""
    ctx.set(count, ctx.get(count) + 1)
    ctx.set(total_cents, ctx.get(total_cents) + order.cents)
    ctx.publish(enriched, Enriched(order.id, known, order.cents, ctx.get(total_cents), ctx.get(count)), key=ctx.key)


@account.shared
async def total(ctx: SharedContext) -> int:
    return ctx.get(total_cents)
