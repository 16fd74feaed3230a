"""The odradek contenders: count each event under its key in durable state and publish one record per event.

One app with dataclasses for its types, and the same with `msgspec.Struct`, as somebody writes it who wants the last tenth
of speed. The topics come from the environment because every run of the benchmark has its own.
"""

import os
from dataclasses import dataclass

import msgspec

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


class EventStruct(msgspec.Struct):
    """An `Event`."""

    id: int
    customer: str
    amount: float
    note: str


class CountedStruct(msgspec.Struct):
    """A `Counted`."""

    count: int


count = State("count", int, default=0)


def counting(event_type: type[Event | EventStruct], counted_type: type[Counted | CountedStruct]) -> App:
    """The app for one way to declare its types."""
    app = App(os.environ.get("BENCH_APP", "bench-keyed-count"))
    events = app.topic(os.environ.get("BENCH_INPUT", "bench-events"), value=event_type)
    counted = app.topic(os.environ.get("BENCH_OUTPUT", "bench-counted"), value=counted_type)

    @app.object("customer").on(events)
    async def on_event(ctx: ObjectContext, _: object) -> None:
        seen = ctx.get(count) + 1
        ctx.set(count, seen)
        ctx.publish(counted, counted_type(seen), key=ctx.key)

    return app


app = counting(Event, Counted)
struct_app = counting(EventStruct, CountedStruct)
