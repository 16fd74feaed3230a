"""A year of departures, per aircraft: how late did each one get, and who had to be rebooked?

odradek dev examples.flights:app
odradek publish departures flights.csv.zip --key tailnum --null NA --app examples.flights:app
"""

from dataclasses import dataclass
from uuid import uuid4

from odradek import App, ObjectContext, SharedContext, State, step


@dataclass
class Flight:
    time_hour: str
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dep_time: int | None  # None: cancelled
    arr_delay: int | None  # minutes


@dataclass
class Arrival:
    flight: str
    minutes_late: int
    ticket: str | None


app = App("flights")
departures = app.topic("departures", value=Flight)
arrivals = app.topic("arrivals", value=Arrival)

aircraft = app.object("aircraft")
flights = State("flights", int, default=0)
minutes_late = State("minutes_late", int, default=0)
rebooked = State("rebooked", int, default=0)


@step
async def rebook(flight: Flight) -> str:
    return f"{flight.carrier}-{uuid4().hex[:8]}"  # another ticket at every call: only a recorded result stays the same


@aircraft.on(departures)
async def departed(ctx: ObjectContext, flight: Flight) -> None:
    late = max(0, flight.arr_delay or 0)
    ticket = None
    if flight.dep_time is None:
        ticket = await rebook(flight)
        ctx.set(rebooked, ctx.get(rebooked) + 1)
    ctx.set(flights, ctx.get(flights) + 1)
    ctx.set(minutes_late, ctx.get(minutes_late) + late)
    ctx.publish(arrivals, Arrival(f"{flight.time_hour} {flight.carrier}{flight.flight}", late, ticket), key=ctx.key)


@aircraft.shared
async def lateness(ctx: SharedContext) -> int:
    return ctx.get(minutes_late)
