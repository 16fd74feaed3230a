"""Pause and resume: an invocation stands still wherever it is, keeps its key and its place, and then goes on as if nothing was."""

import pytest

from odradek import App, Context, ObjectContext
from odradek_runtime.core.records.formats import Command
from tests.engine.control.ordering import entry, left, ordered, tell
from tests.engine.control.states import NAMES, Outside, begin, make_app
from tests.engine.harness import Rig


def status(rig: Rig, app: App, id_: str) -> str:
    found = entry(rig, app, id_)
    return found.status if found is not None else ""


RESULTS = {
    "step": "stepped", "sleep": "slept", "call": "slept", "inbox": "quick", "backoff": "backed off", "delay": "quick",
    "limit": "narrowed", "paused": "went on",
}  # fmt: skip


@pytest.mark.parametrize("crash", [False, True], ids=["at once", "after a crash"])
@pytest.mark.parametrize("name", NAMES)
def test_it_stands_still_and_then_goes_on(rig: Rig, name: str, crash: bool) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, name)
    asked = rig.attach(id_) if name != "record" else None
    ordered(rig, app, "pause", id_)
    if crash:
        outside.gate.set()  # a step that its worker would wait for
        rig.restart(app, crash=True)
        asked = rig.attach(id_) if name != "record" else None
    outside.gate.set()
    rig.later(7200)
    if name == "inbox":  # its turn comes, and it has its key, and stands
        rig.until(lambda: "sleep" in outside.ran)
    assert rig.call("thing/quick", key="another") == "quick"
    rig.settled(app)
    assert status(rig, app, id_) == "paused"
    behind = rig.ask("thing/quick", key=name)
    rig.until(lambda: status(rig, app, behind.id) in ("inboxed", "completed"))
    expected = "completed" if name in ("delay", "limit") else "inboxed"  # who has not begun holds up none
    assert status(rig, app, behind.id) == expected

    ordered(rig, app, "resume", id_)
    if asked is not None and name != "again":
        assert asked.value() == RESULTS[name]
    if name == "again":
        rig.until(lambda: status(rig, app, id_) == "running")
        ordered(rig, app, "kill", id_)
    assert behind.value() == "quick"
    rig.until(lambda: left(rig, app) == [] or name == "again")


def test_those_in_line_begin_in_their_order_though_one_was_paused(rig: Rig) -> None:
    app = App("order", shards=1)
    thing = app.object("thing")
    ran: list[int] = []

    @thing.handler
    async def hold(ctx: ObjectContext) -> None:
        await ctx.sleep(60)

    @thing.handler
    async def one(ctx: ObjectContext, number: int) -> None:
        ran.append(number)

    rig.start(app)
    rig.ask("thing/hold", key="k", wait=False).reply()
    ids = []
    for number in range(4):
        ids.append(rig.ask("thing/one", number, key="k", wait=False).id)
        rig.until(lambda: status(rig, app, ids[-1]) == "inboxed")
    ordered(rig, app, "pause", ids[1])
    rig.later(61)
    rig.until(lambda: ran == [0])
    rig.settled(app)
    assert [status(rig, app, id_) for id_ in ids[1:]] == ["paused", "inboxed", "inboxed"]
    ordered(rig, app, "resume", ids[1])
    rig.until(lambda: ran == [0, 1, 2, 3])
    rig.until(lambda: left(rig, app) == [])


def test_a_delay_is_not_cut_short_by_a_pause(rig: Rig) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, "delay")
    ordered(rig, app, "pause", id_)
    ordered(rig, app, "resume", id_)
    assert status(rig, app, id_) == "scheduled"
    assert outside.ran == []
    rig.later(3601)
    rig.until(lambda: outside.ran == ["quick"])


def test_a_turn_under_a_limit_goes_to_another_meanwhile(rig: Rig) -> None:
    app = App("turns", shards=1)
    ran: list[int] = []

    @app.handler(concurrency=1)
    async def narrow(ctx: Context, number: int) -> None:
        await ctx.sleep(60)
        ran.append(number)

    rig.start(app)
    ids = []
    for number in range(3):
        ids.append(rig.ask("turns/narrow", number, wait=False).id)
        rig.until(lambda: status(rig, app, ids[-1]) in ("running", "scheduled"))
    ordered(rig, app, "pause", ids[0])
    rig.until(lambda: status(rig, app, ids[1]) == "running")
    rig.later(61)
    rig.until(lambda: ran == [1])
    rig.later(61)
    rig.until(lambda: ran == [1, 2])
    ordered(rig, app, "resume", ids[0])
    rig.until(lambda: ran == [1, 2, 0])


def test_no_invocation_pauses_another(rig: Rig) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, "sleep")
    tell(rig, app, Command(kind="pause", id=id_, caller_id=id_, ref=0))
    rig.settled(app)
    assert status(rig, app, id_) == "running"
    assert [letter["odradek-field"] for letter in rig.dead_letters(app)] == ["caller_id"]


def test_one_that_is_paused_for_longer_than_its_timeout_ends(rig: Rig) -> None:
    app = App("late", shards=1)

    @app.handler(timeout=60)
    async def slow(ctx: Context) -> None:
        await ctx.sleep(30)

    rig.start(app)
    asked = rig.ask("late/slow")
    rig.until(lambda: status(rig, app, asked.id) == "running")
    ordered(rig, app, "pause", asked.id)
    rig.later(61)
    failure = asked.reply().failure
    assert failure is not None
    assert failure.code == 504
    rig.until(lambda: left(rig, app) == [])
