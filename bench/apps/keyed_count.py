"""The odradek contender: count each event under its key in durable state and publish one record per event.

The topics come from the environment because every run of the benchmark has its own.
"""

import os
from dataclasses import dataclass

from odradek import App, ObjectContext, State


@dataclass
class Event:
    """One event, about 100 bytes of JSON."""

    id: int
    customer: str
    amount: float
    note: str


@dataclass
class Counted:
    """How many events this customer has had, this one included."""

    count: int


app = App(os.environ.get("BENCH_APP", "bench-keyed-count"))
events = app.topic(os.environ.get("BENCH_INPUT", "bench-events"), value=Event)
counted = app.topic(os.environ.get("BENCH_OUTPUT", "bench-counted"), value=Counted)
customer, count = app.object("customer"), State("count", int, default=0)


@customer.on(events)
async def on_event(ctx: ObjectContext, event: Event) -> None:
    seen = ctx.get(count) + 1
    ctx.set(count, seen)
    ctx.publish(counted, Counted(seen), key=ctx.key)
