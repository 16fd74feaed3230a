"""What goes into a step, and what comes out: arguments as they were when it was asked for; a result that is recorded, or an end."""

import dataclasses
import functools
import threading
from array import array
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from odradek import App, Context, RetryPolicy, TerminalError, step
from tests.engine.harness import Rig

QUICK = RetryPolicy(initial=0.01, max_delay=0.02)


@dataclasses.dataclass
class Batch:
    rows: list[int]
    tool: Any = None


class Structured(msgspec.Struct):
    rows: list[int]


class Modelled(pydantic.BaseModel):
    rows: list[int]


@attrs.define
class Defined:
    rows: list[int]


class Frame:
    """Data of a library that knows how it is copied, as arrays and frames do."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frame":
        return Frame(list(self.rows))


class Odd(dict[str, int]):
    """A container that cannot be copied."""

    def __reduce__(self) -> Any:
        raise ValueError("not me")


def rows_of(value: Any) -> list[Any]:
    return sorted(value.rows if hasattr(value, "rows") else value, key=repr)


DATA: dict[str, Callable[[], Any]] = {
    "list": lambda: [1, 2],
    "nested": lambda: [1, 2],
    "deque": lambda: deque([1, 2]),
    "set": lambda: {1, 2},
    "bytearray": lambda: bytearray(b"\x01\x02"),
    "array": lambda: array("i", [1, 2]),
    "dataclass": lambda: Batch([1, 2]),
    "Struct": lambda: Structured([1, 2]),
    "pydantic": lambda: Modelled(rows=[1, 2]),
    "attrs": lambda: Defined([1, 2]),
    "__deepcopy__": lambda: Frame([1, 2]),
}


def emptied(value: Any) -> None:
    rows = value.rows if hasattr(value, "rows") else value
    if isinstance(rows, array):
        del rows[:]
    else:
        rows.clear()


@pytest.mark.parametrize("kind", list(DATA))
def test_arguments_are_those_of_the_moment_the_step_was_asked_for(rig: Rig, kind: str) -> None:
    app, saved = App("saved", shards=1), list[Any]()

    def save(batch: Any, deep: dict[str, Any], **_named: Any) -> int:
        saved.append((rows_of(batch), [rows_of(one) for one in deep["in"]]))
        emptied(batch)
        emptied(deep["in"][0])
        if len(saved) < 3:
            raise ConnectionError("again")  # and the next run sees what this one saw, not what it left
        return len(saved)

    @app.handler
    async def go(ctx: Context) -> int:
        batch, deep = DATA[kind](), {"in": [DATA[kind]()]}
        saving = ctx.run(save, batch, deep, retry=QUICK)
        emptied(batch)
        emptied(deep["in"][0])
        deep["in"].append(DATA[kind]())
        await ctx.sleep(0.001)
        return await saving

    rig.start(app)
    assert rig.call("saved/go") == 3
    assert saved == [([1, 2], [[1, 2]])] * 3


def test_a_replay_takes_them_as_they_are_there_too(disk_rig: Rig) -> None:
    rig, app, saved, hold = disk_rig, App("taken", shards=1), list[list[int]](), threading.Event()

    def save(batch: list[int]) -> int:
        saved.append(list(batch))
        hold.wait(5)
        return len(batch)

    @app.handler
    async def go(ctx: Context) -> int:
        batch = [1, 2, 3]
        saving = ctx.run(save, batch)
        batch.clear()
        return await saving

    rig.start(app)
    asked = rig.ask("taken/go")
    rig.until(lambda: len(saved) == 1)
    rig.crash()
    hold.set()
    rig.start(app)
    assert rig.attach(asked.id).value() == 3
    assert saved == [[1, 2, 3]] * 2


def test_tools_are_handed_over_as_they_are_and_data_around_them_is_copied(rig: Rig) -> None:
    app, seen = App("tools", shards=1), list[bool]()

    class Client:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.sent: list[int] = []

    client, odd = Client(), Odd(a=1)

    @step
    async def send(batch: Batch, by_name: defaultdict[str, list[int]], *, to: Client) -> int:
        seen.append(batch.tool is client and to is client)
        client.sent.extend(batch.rows + by_name["x"])
        return len(client.sent)

    def look(one: Any, function: Callable[[], int], rows: list[int]) -> list[int]:
        seen.append(one is odd and function is probe)
        return rows

    def probe() -> int:
        return 1

    def total(rows: list[int]) -> int:
        return sum(rows)

    @app.handler
    async def go(ctx: Context) -> list[Any]:
        sent = await send(Batch([1], client), defaultdict(list, x=[2]), to=client)
        rows = [1, 2]
        looked, summed = ctx.run(look, odd, probe, rows), ctx.run(functools.partial(total, rows), name="total")
        rows.clear()
        return [sent, await looked, await summed]

    rig.start(app)
    assert rig.call("tools/go") == [2, [1, 2], 3]
    assert client.sent == [1, 2]
    assert seen == [True, True]


class Unreadable:
    def __repr__(self) -> str:
        raise SystemExit("not even this")


@pytest.mark.parametrize(
    "value",
    [object(), Unreadable(), {1: {2: object()}}, float, lambda: 1],
    ids=["object", "raises", "deep", "type", "function"],
)
@pytest.mark.parametrize("kind", ["sync", "async", "step"])
def test_a_result_that_cannot_be_encoded_ends_its_step_after_one_run(rig: Rig, kind: str, value: object) -> None:
    app, runs = App("opaque", shards=1), list[int]()

    def give() -> Any:
        runs.append(1)
        return value

    async def give_later() -> Any:
        return give()

    bodies: dict[str, Any] = {"sync": give, "async": give_later, "step": step(give_later)}

    @app.handler
    async def go(ctx: Context) -> str:
        try:
            return str(await ctx.run(bodies[kind], retry=QUICK))
        except TerminalError as error:
            return f"{error.code} {error.message}"

    rig.start(app)
    said = rig.call("opaque/go")
    assert said.startswith("500 ")
    assert "give" in said
    assert len(runs) == 1


def test_an_encoder_that_exits_ends_its_step_alone(rig: Rig) -> None:
    app, runs = App("encoder", shards=1), list[int]()

    class Leaves(pydantic.BaseModel):
        @pydantic.model_serializer
        def leave(self) -> dict[str, int]:
            raise SystemExit(3)

    def give() -> Leaves:
        runs.append(1)
        return Leaves()

    @app.handler
    async def go(ctx: Context) -> str:
        try:
            await ctx.run(give, returns=Leaves)
        except TerminalError as error:
            return error.message
        return "recorded"

    rig.start(app)
    assert "its result cannot be recorded" in rig.call("encoder/go")
    assert len(runs) == 1


def test_errors_of_derived_classes_end_what_they_end_whatever_they_hold(rig: Rig) -> None:
    app = App("derived", shards=1)

    class Bare(TerminalError):
        def __init__(self) -> None:
            """Without what its base sets."""

    class Strange(TerminalError):
        def __init__(self) -> None:
            super().__init__("strange")
            self.code, self.metadata = "many", [1]  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    def fail(bare: bool) -> None:
        raise Bare if bare else Strange

    @app.handler
    async def direct(ctx: Context, bare: bool) -> None:
        fail(bare)

    @app.handler
    async def by_step(ctx: Context, bare: bool) -> None:
        await ctx.run(fail, bare)

    rig.start(app)
    for target in ("derived/direct", "derived/by_step"):
        for bare, message in ((True, "Bare"), (False, "strange")):
            failure = rig.ask(target, bare).reply().failure
            assert failure is not None
            assert (failure.code, failure.message, dict(failure.metadata)) == (500, message, {})


def test_a_result_goes_through_its_type_on_the_first_run_too(rig: Rig) -> None:
    app = App("typed", shards=1)

    @step
    async def ratio() -> float:
        return 1

    @step
    async def pair() -> tuple[int, ...]:
        return [1, 2]  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  (what is refused)

    @app.handler
    async def ask(ctx: Context) -> str:
        return type(await ratio()).__name__

    @app.handler
    async def ask_wrongly(ctx: Context) -> str:
        return type(await pair()).__name__

    rig.start(app)
    assert rig.call("typed/ask") == "float"
    failure = rig.ask("typed/ask_wrongly").reply().failure
    assert failure is not None
    assert "its result cannot be recorded: $: expected tuple, got list" in failure.message


def test_a_result_that_cannot_be_encoded_or_is_too_large_fails_its_step_alone(rig: Rig) -> None:
    app = App("large", shards=1)

    def large() -> bytes:
        return b"x" * 9_000_000

    @app.handler
    async def go(ctx: Context) -> str:
        try:
            await ctx.run(large)
        except TerminalError as error:
            return f"{error.code} {error.message}"
        return "taken"

    rig.start(app)
    assert rig.call("large/go").startswith("413 ")
