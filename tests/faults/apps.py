"""The app under fault: the flights of `examples/flights.py` under names of the test's own, and handlers that wait.

Loaded by worker processes (`odradek run tests.faults.apps:app`); the environment says whose it is:
FAULTS_APP its name and the prefix of its topics, FAULTS_SHARDS its N, FAULTS_GATE a file for which the long step waits,
FAULTS_FIXED a file without which flights that were early are refused,
FAULTS_RUNS a file to which every run of the short step adds a line.
"""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from odradek import App, ObjectContext, State, TerminalError, step

NAME = os.environ.get("FAULTS_APP", "faults")
GATE = Path(os.environ.get("FAULTS_GATE", "gate"))
FIXED = Path(os.environ.get("FAULTS_FIXED", "fixed"))
RUNS = os.environ.get("FAULTS_RUNS", os.devnull)


@dataclass
class Flight:
    name: str
    late: int
    cancelled: bool


@dataclass
class Arrival:
    flight: str
    minutes_late: int
    ticket: str | None


@dataclass
class Errand:
    kind: str  # "count", "sleep" or "step"


app = App(NAME, shards=int(os.environ["FAULTS_SHARDS"]) if "FAULTS_SHARDS" in os.environ else None)
departures = app.topic(f"{NAME}-departures", value=Flight)
arrivals = app.topic(f"{NAME}-arrivals", value=Arrival)
errands = app.topic(f"{NAME}-errands", value=Errand)
done = app.topic(f"{NAME}-done", value=str)

aircraft = app.object("aircraft")
flights = State("flights", int, default=0)
minutes_late = State("minutes_late", int, default=0)
rebooked = State("rebooked", int, default=0)

errand = app.object("errand")
count = State("count", int, default=0)


@step
async def rebook(flight: Flight) -> str:
    ticket = uuid4().hex[:8]
    _tell(f"{os.getpid()},{flight.name},{ticket}\n")
    return ticket


def _tell(line: str) -> None:
    with Path(RUNS).open("a") as runs:
        runs.write(line)


@aircraft.on(departures)
async def departed(ctx: ObjectContext, flight: Flight) -> None:
    ticket = None
    if flight.late < 0 and not FIXED.exists():  # noqa: ASYNC240  (a look that takes microseconds)
        raise TerminalError("a flight that was early: nobody has thought of that")
    if flight.cancelled:
        ticket = await rebook(flight)
        ctx.set(rebooked, ctx.get(rebooked) + 1)
    ctx.set(flights, ctx.get(flights) + 1)
    ctx.set(minutes_late, ctx.get(minutes_late) + flight.late)
    ctx.publish(arrivals, Arrival(flight.name, flight.late, ticket), key=ctx.key)


def wait_for_the_gate() -> str:
    while not GATE.exists():
        time.sleep(0.05)
    return GATE.read_text()


@errand.on(errands)
async def run(ctx: ObjectContext, task: Errand) -> None:
    said = task.kind
    if task.kind == "sleep":
        await ctx.sleep(timedelta(seconds=float(os.environ.get("FAULTS_SLEEP_S", "3600"))))
    elif task.kind == "step":
        said = await ctx.run(wait_for_the_gate)
    ctx.set(count, ctx.get(count) + 1)
    ctx.publish(done, f"{said} {ctx.get(count)}", key=ctx.key)
