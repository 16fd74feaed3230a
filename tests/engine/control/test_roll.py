"""The roll: what is told of invocations in every state, of one's journal, and by which filters they are found."""

import threading

import pytest

from odradek import App, Context
from odradek_runtime.worker.upkeep.roll import NotHere, Roll
from odradek_runtime.worker.upkeep.sightings import Sighting, Wanted
from tests.engine.control.states import NAMES, Outside, begin, make_app
from tests.engine.harness import Rig


def roll(rig: Rig) -> Roll:
    assert rig.worker.upkeep is not None
    return rig.worker.upkeep.roll


def seen(rig: Rig, id_: str) -> Sighting | None:
    return next(iter(roll(rig).call(Wanted([id_])).found), None)


EXPECTED = {
    "step": ("running", "step", "held"),
    "again": ("suspended", "step", "fails"),
    "sleep": ("suspended", "sleep", ""),
    "call": ("suspended", "call", "thing/sleep"),
    "inbox": ("inboxed", "key", ""),
    "backoff": ("backing_off", "attempt", ""),
    "delay": ("scheduled", "start", ""),
    "limit": ("scheduled", "turn", "states/narrow"),
    "paused": ("paused", "operator", "exhausted"),
    "record": ("suspended", "sleep", ""),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_each_waits_for_is_told(rig: Rig, name: str) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    begun_ms = rig.clock()
    id_ = begin(rig, app, name)
    status, kind, what = EXPECTED[name]

    def told() -> bool:
        sighting = seen(rig, id_)
        return sighting is not None and (sighting.status, *_first(sighting)) == (status, kind, what)

    rig.until(told)
    sighting = seen(rig, id_)
    assert sighting is not None
    awaited = sighting.waits_for[0]
    assert begun_ms - 1_000 <= sighting.created_ms <= rig.clock()
    assert sighting.key == (None if name == "limit" else name)
    hour_ms = 3_600_000
    if kind in ("start", "attempt") or name == "sleep":
        assert hour_ms - 60_000 < awaited.due_ms - rig.clock() <= hour_ms
    if name == "again":
        rig.until(lambda: (found := seen(rig, id_)) is not None and found.waits_for[0].due_ms > rig.clock() + 3_000_000)
        found = seen(rig, id_)
        assert found is not None and found.waits_for[0].attempt == 1
    if name == "inbox":
        holder = seen(rig, awaited.id)
        assert holder is not None and holder.target == "thing/sleep"
    if name == "call":
        rig.until(lambda: seen(rig, awaited.id))
        callee = seen(rig, awaited.id)
        assert callee is not None
        assert (callee.key, callee.caller_id) == ("call-callee", id_)
    if name in ("backoff", "paused"):
        assert sighting.attempts == 1
        assert "ValueError" in sighting.error
    if name == "record":
        assert (sighting.topic, sighting.offset) == ("states-in", 0)
    outside.gate.set()


def _first(sighting: Sighting) -> tuple[str, str]:
    return (sighting.waits_for[0].kind, sighting.waits_for[0].name) if sighting.waits_for else ("", "")


def test_the_journal_is_told_with_times(rig: Rig) -> None:
    app = App("timeline", shards=1)
    gate = threading.Event()

    @app.handler
    async def callee(ctx: Context) -> str:
        return "called"

    @app.handler
    async def one(ctx: Context) -> None:
        await ctx.run(str, 7, name="seven")
        await ctx.call(callee)
        ctx.send(callee)
        await ctx.call(callee, idempotency_key="known")
        await ctx.run(gate.wait, 60, name="gate")

    rig.start(app)
    before_ms = rig.clock() - 1_000
    id_ = rig.ask("timeline/one", wait=False).id
    rig.until(lambda: (found := roll(rig).journal(0, id_)) is not None and len(found.entries) == 5)
    found = roll(rig).journal(0, id_)
    assert found is not None
    step, called, sent, known, waiting = found.entries
    assert (step.kind, step.name, step.value, step.size, step.ended) == ("step", "seven", '"7"', 3, True)
    assert before_ms <= step.at_ms <= step.ended_ms <= called.at_ms <= called.ended_ms <= rig.clock()
    assert (called.kind, called.name, called.value) == ("call", "timeline/callee", '"called"')
    assert called.callee.startswith("inv_")
    assert (sent.kind, sent.ended) == ("send", False)
    assert seen(rig, known.callee) is not None, "its completion is kept, under the id of its idempotency key"
    assert len({called.callee, sent.callee, known.callee}) == 3
    assert (waiting.name, waiting.ended, waiting.ended_ms) == ("gate", False, 0)
    assert found.invocation.since_ms == waiting.at_ms
    gate.set()


def test_filters_find_what_they_say(rig: Rig) -> None:
    outside = Outside()
    outside.gate.set()
    app = make_app(outside)
    rig.start(app)
    sleeper = begin(rig, app, "sleep")
    waiting = begin(rig, app, "inbox")
    rig.later(600)
    later = rig.ask("thing/sleep", key="young", wait=False).id
    rig.until(lambda: seen(rig, later) is not None)

    def ids(wanted: Wanted) -> set[str]:
        return {each.id for each in roll(rig).call(wanted).found}

    assert ids(Wanted(service="thing")) == ids(Wanted())
    assert ids(Wanted(service="states")) == set()
    assert ids(Wanted(handler="sleep", key="sleep")) == ids(Wanted(handler="thing/sleep", key="sleep")) == {sleeper}
    assert ids(Wanted(statuses=["inboxed"])) == {waiting}
    assert ids(Wanted(younger_s=300)) == {later}
    assert later not in ids(Wanted(older_s=300)) and sleeper in ids(Wanted(older_s=300))
    oldest = roll(rig).call(Wanted(limit=1))
    assert (oldest.matching, len(oldest.found)) == (4, 1), "two sleep, one waits, one is young"
    assert oldest.found[0].created_ms == min(each.created_ms for each in roll(rig).call(Wanted()).found)
    quick = rig.ask("thing/quick", key="q")
    quick.value()
    rig.until(lambda: ids(Wanted(statuses=["completed"])) == {quick.id})
    assert quick.id not in ids(Wanted())


def test_nothing_is_told_of_what_is_elsewhere_or_never_was(rig: Rig) -> None:
    app = make_app(Outside())
    rig.start(app)
    id_ = begin(rig, app, "sleep")
    rig.ask("thing/quick", key="x").value()
    numbers = [number for number in range(2) if roll(rig).journal(number, id_) is not None]
    assert len(numbers) == 1
    with pytest.raises(NotHere):
        roll(rig).journal(7, id_)
    assert roll(rig).journal(numbers[0], "inv_aaaaaaaaaaaaaaaaaaaaaaaaaa") is None
