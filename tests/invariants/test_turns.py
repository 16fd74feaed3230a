"""However much comes due at once, everything else has its turn: counted in turns and invocations, not in seconds."""

from odradek import App, Context, ObjectContext, State
from odradek_runtime.core import machine
from odradek_runtime.worker.engine import agenda
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage

MANY = 2_000
FEW = 3 * (agenda.SHARE + machine.SETTLED)
"""So many invocations may come before a request that is made at any time: three turns' worth."""
count = State("count", int, default=0)


def busy(seen: list[int], shards: int = 1) -> App:
    """`seen` has everything that ran, in its order; -1 is the request."""
    app = App("busy", shards=shards)
    counter = app.object("counter")

    @app.handler
    async def note(_: Context, n: int) -> None:
        seen.append(n)

    @app.handler
    async def plan(ctx: Context, delay_s: float) -> None:
        for n in range(MANY):
            ctx.send("busy/note", n, delay=delay_s)

    @app.handler
    async def burst(ctx: Context) -> None:
        for n in range(MANY):
            ctx.send("counter/add", n, key="k")

    @counter.handler
    async def hold(ctx: ObjectContext) -> None:
        await ctx.sleep(60)

    @counter.handler
    async def add(ctx: ObjectContext, n: int) -> None:
        ctx.set(count, ctx.get(count) + 1)
        seen.append(n)

    @app.handler
    async def ping(_: Context) -> None:
        seen.append(-1)

    return app


def asked_amid(here: Stage, seen: list[int]) -> int:
    """A request that is made when the first of many have run; gives how many ran before it."""
    here.until(lambda: seen)
    began = len(seen)
    replies = here.ask("busy/ping")
    here.until(lambda: replies)
    assert len(seen) < MANY, "it is answered before all of them have run"
    before = seen.index(-1) - began
    here.until(lambda: len(seen) == MANY + 1 and here.quiet)
    return before


def test_a_request_beside_timers_that_are_due_has_its_turn(stage: MakeStage) -> None:
    seen: list[int] = []
    here = stage(busy(seen)).open()
    here.ask("busy/plan", 10)
    here.until(lambda: here.machine.metrics.epochs and here.quiet)
    here.until(lambda: sum(1 for _ in here.machine.shards[0].scan_prefix(b"t")) >= MANY and here.quiet)
    here.later(10_001)
    assert asked_amid(here, seen) <= FEW
    assert sorted(seen) == list(range(-1, MANY))


def test_shards_share_what_is_due(stage: MakeStage) -> None:
    """One with many timers does not keep the others' from firing."""
    seen: list[int] = []
    here = stage(busy(seen, shards=3)).open()
    here.ask("busy/plan", 10)
    here.until(lambda: sum(1 for s in here.machine.shards.values() for _ in s.scan_prefix(b"t")) >= MANY and here.quiet)
    here.later(10_001)
    here.turn()
    assert 0 < len(seen) <= agenda.SHARE
    here.until(lambda: len(seen) == MANY and here.quiet)


def test_a_request_beside_a_long_inbox_has_its_turn(stage: MakeStage) -> None:
    seen: list[int] = []
    here = stage(busy(seen)).open()
    here.ask("counter/hold", key="k")
    here.ask("busy/burst")
    lock = here.machine.shards[0].locks.held
    here.until(lambda: lock and next(iter(lock.values())).tail == MANY and here.quiet)
    here.later(60_001)
    assert asked_amid(here, seen) <= FEW
    assert [n for n in seen if n >= 0] == list(range(MANY)), "in the order of the inbox"


def test_a_request_beside_a_burst_of_sends_has_its_turn(stage: MakeStage) -> None:
    seen: list[int] = []
    here = stage(busy(seen)).open()
    here.ask("busy/burst")
    assert asked_amid(here, seen) <= FEW
    assert [n for n in seen if n >= 0] == list(range(MANY)), "in the order they were sent"
    assert here.machine.shards[0].read(b"scounter/k/count") == str(MANY).encode()


def test_a_request_beside_many_paused_invocations_has_its_turn(stage: MakeStage) -> None:
    """They are tried again when their shard opens, on the code of today."""
    seen: list[int] = []
    here = stage(busy(seen)).open()
    here.ask("busy/plan", 10)
    here.until(lambda: sum(1 for _ in here.machine.shards[0].scan_prefix(b"t")) >= MANY and here.quiet)
    note = here.machine.handlers["busy/note"]
    here.machine.handlers = {name: handler for name, handler in here.machine.handlers.items() if name != "busy/note"}
    here.later(10_001)
    here.until(lambda: sum(1 for _ in here.machine.shards[0].scan_prefix(b"z")) == MANY and here.quiet)
    here.machine.handlers = {**here.machine.handlers, "busy/note": note}
    here.engine.flags.start_over = "a test says so"
    here.turn()
    assert asked_amid(here, seen) <= FEW
    assert sorted(seen) == list(range(-1, MANY))
