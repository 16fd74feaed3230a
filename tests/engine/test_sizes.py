"""Sizes: what is too large for the log is refused where it is made, and what an input may hold passes through.

The app's own topics take 300 kB here, and values are of about that size.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError, step
from odradek_runtime.log.port import Output, Transaction
from odradek_runtime.log.sizes import record_bytes
from tests.engine.faults import Verdict
from tests.engine.harness import Rig
from tests.engine.limited import LIMIT, SIZES, STRIDE, held, letters, sized, small, write


@pytest.fixture(autouse=True)
def nothing_too_large(rig: Rig) -> Iterator[None]:
    """The log refuses a transaction with a record over its topic's limit: none may be sent."""
    sent: list[str] = []

    def judge(transaction: Transaction) -> Verdict:
        records = [(topic, key, value, headers) for topic, _, key, value, headers, _ in transaction.outputs]
        app = next((topic.rpartition(".")[0] for topic in rig.log.topics() if topic.endswith(".journal")), "")
        for number in transaction.stamps:
            headers = transaction.state_headers.get(number)
            records += [(f"{app}.state", key, value, headers) for key, value in transaction.state.get(number, ())]
            records += [(f"{app}.journal", key, value, None) for key, value in transaction.journal.get(number, ())]
        for topic, key, value, headers in records:
            info = rig.log.topic(topic)
            limit = int(info.config.get("max.message.bytes", 1_048_588)) if info is not None else 0
            if record_bytes(key, value, headers) > limit:
                sent.append(f"{topic}: {record_bytes(key, value, headers)} of {limit}")
        return "pass"

    rig.log.judge = judge
    yield
    assert sent == []


def test_state_is_refused_by_itself_and_what_is_written_fits(rig: Rig) -> None:
    """Also what the journal takes down of it when it is read."""
    app = App("states", shards=1)
    box = app.object("box")

    @box.handler
    async def put(ctx: ObjectContext, size: int) -> str:
        ctx.set(held, b"before")
        try:
            ctx.set(held, b"x" * size)
        except TerminalError as error:
            return f"{error.code} {len(ctx.get(held))}"
        read = len(ctx.get(held))
        await ctx.sleep(0.001)
        return f"kept {read} {len(ctx.get(held))}"

    small(rig, app)
    rig.start(app)
    asked = {size: rig.ask("box/put", size, key=str(size)) for size in SIZES}
    told = {size: reply.value() for size, reply in asked.items()}
    kept = [size for size, said in told.items() if said == f"kept {size} {size}"]
    assert set(told.values()) - {f"kept {size} {size}" for size in SIZES} == {"413 6"}
    assert kept == list(range(SIZES.start, max(kept) + 1, STRIDE)), "one boundary"
    assert max(kept) > LIMIT - 1_000


def test_a_refusal_that_a_handler_catches_is_the_same_in_a_replay(rig: Rig) -> None:
    """Whatever it went on with: the limit may be another one by then, and a replay does not ask."""
    app = App("caught", shards=1)
    box, out = app.object("box"), app.topic("out")
    runs: list[list[str]] = []

    @box.handler
    async def tries(ctx: ObjectContext, size: int) -> list[str]:
        said: list[str] = []
        runs.append(said)
        for what in ("state", "publish", "call", "send", "small publish"):
            try:
                match what:
                    case "state":
                        ctx.set(held, b"x" * size)
                    case "publish":
                        ctx.publish(out, b"x" * size, key="k")
                    case "call":
                        await ctx.call(other, b"x" * size)
                    case "send":
                        ctx.send(other, b"x" * size)
                    case _:
                        ctx.publish(out, b"small", key="k")
            except TerminalError as error:
                said.append(f"{what} {error.code}")
        await ctx.sleep(0.001)
        said.append("slept")
        await ctx.sleep(0.001)
        return said

    @app.handler
    async def other(_: Context, value: bytes) -> int:
        return len(value)

    small(rig, app)
    rig.log.create_topic("out", 1, {"max.message.bytes": str(LIMIT)})
    rig.start(app, coroutine_cache=0)
    expected = ["state 413", "publish 413", "call 413", "send 413", "slept"]
    assert rig.ask("box/tries", LIMIT + 1_000, key="k").value() == expected
    assert len(runs) >= 2, "it was replayed"
    assert runs[0] == expected[:-1]
    assert [message.value() for message in rig.records("out")] == [b"small"]


def test_results_arguments_and_step_results_fit_or_are_refused(rig: Rig) -> None:
    app = App("results", shards=2)
    box, out = app.object("box"), app.topic("out", value=int)

    @step(retry=RetryPolicy(max_attempts=1))
    async def much(size: int) -> bytes:
        return b"x" * size

    @box.handler
    async def give(ctx: ObjectContext, size: int) -> bytes:
        return b"x" * size

    @box.handler
    async def take(ctx: ObjectContext, value: bytes) -> int:
        await ctx.sleep(0.001)
        return len(value)

    @app.handler
    async def ask(ctx: Context, how: tuple[str, int, str]) -> int:
        kind, size, key = how
        match kind:
            case "step":
                return len(await much(size))
            case "result":
                return len(await ctx.call(give, size, key=key))
            case "argument":
                return await ctx.call(take, b"x" * size, key=key)
            case _:
                ctx.send(take, b"x" * size, key=key, delay=0.001)
                ctx.publish(out, size, key="k")
                return size

    small(rig, app)
    rig.log.create_topic("out", 1, {})
    rig.start(app)
    for kind in ("step", "result", "argument", "send"):
        asked = {size: rig.ask("results/ask", (kind, size, f"k{size}")) for size in SIZES}
        replies = {size: reply.reply() for size, reply in asked.items()}
        done = [size for size, reply in replies.items() if reply.status == "completed"]
        failed = {reply.failure.code for reply in replies.values() if reply.failure is not None}
        assert failed == {413}, kind
        assert done == list(range(SIZES.start, max(done) + 1, STRIDE)), f"{kind}: one boundary"
        assert max(done) > LIMIT - 2_500, kind
    rig.until(lambda: rig.invocations(app) == [] or all(i.status in ("completed", "failed") for i in rig.invocations(app)))


@pytest.mark.parametrize("how", ["wait", "fail", "undecodable", "return"])
def test_records_of_any_size_come_to_their_end(rig: Rig, how: str) -> None:
    """Those that the journal cannot keep run if they need not be kept; else they are dead letters, at once, as what they are."""
    app = App("records", shards=1)
    inputs, box = app.topic("in", value=int if how == "undecodable" else bytes), app.object("box")
    ended: list[int] = []

    @box.on(inputs)
    @box.handler(retry=RetryPolicy(initial=0.001, max_attempts=2))
    async def see(ctx: ObjectContext, value: Any) -> None:
        if how == "wait":
            await ctx.sleep(0.001)
        if how == "fail":
            raise ValueError("as always " + "y" * 20_000)
        ended.append(ctx.record.offset)

    small(rig, app, "in")
    rig.start(app)
    sizes = [*SIZES, 2_000_000, 5_000_000]
    write(rig, *[Output("in", 0, b"k%d" % n, sized(n, size), [("h", b"v")]) for n, size in enumerate(sizes)])
    rig.until(lambda: len(set(ended)) + len(letters(rig, app)) == len(sizes))

    found = letters(rig, app)
    assert [letter["odradek-topic"] for letter in found] == ["in"] * len(found)
    for letter in found:
        offset = int(letter["odradek-offset"])
        assert letter["key"] == b"k%d" % offset
        assert letter.get("h") == "v", {**letter, "odradek-error": ""}
        assert letter["size"] == sizes[offset] or (letter["size"], letter["odradek-value-bytes"]) == (None, str(sizes[offset]))
    without = [sizes[int(letter["odradek-offset"])] for letter in found if letter["size"] is None]
    match how:
        case "return":
            assert found == []
        case "wait":
            assert 0 < len(ended) < len(SIZES)
            assert {letter["odradek-code"] for letter in found} == {"413"}
        case "fail":
            assert len(found) == len(sizes)
            assert {letter["odradek-attempts"] for letter in found} == {"1", "2"}, "one that cannot be kept has no second attempt"
        case _:
            assert len(found) == len(sizes)
    assert all(size > LIMIT - 25_000 for size in without)
    rig.until(lambda: rig.invocations(app) == [])


def test_a_record_too_large_to_be_forwarded_is_a_dead_letter_of_its_own_place(rig: Rig) -> None:
    app = App("forwards", shards=2)
    inputs, box = app.topic("in"), app.object("box")
    seen: list[int] = []

    @box.on(inputs)
    async def see(ctx: ObjectContext, value: bytes) -> None:
        seen.append(ctx.record.offset)

    small(rig, app, "in")
    rig.start(app)
    other = rig.begin(app)
    rig.until(lambda: other.ready and rig.workers[0].ready)
    sizes = [*SIZES, 5_000_000]
    write(rig, *[Output("in", 0, b"k%d" % n, sized(n, size), None) for n, size in enumerate(sizes)])
    rig.until(lambda: len(set(seen)) + len(letters(rig, app)) == len(sizes))
    for letter in letters(rig, app):
        offset = int(letter["odradek-offset"])
        assert (letter["odradek-topic"], letter["odradek-partition"], letter["key"]) == ("in", "0", b"k%d" % offset)
        assert (letter["odradek-code"], letter["odradek-handler"]) == ("413", "box/see")
        assert letter["size"] == sizes[offset] or letter["odradek-value-bytes"] == str(sizes[offset])
    assert 0 < len(letters(rig, app)) < len(sizes)


def test_what_waits_for_its_key_or_its_turn_is_kept_or_a_dead_letter(rig: Rig) -> None:
    app = App("queues", shards=1)
    inputs, box = app.topic("in"), app.object("box")
    seen: list[int] = []

    @box.on(inputs)
    @box.handler(concurrency=2)
    async def see(ctx: ObjectContext, value: bytes) -> None:
        seen.append(ctx.record.offset)
        if len(value) < 1_000:
            await ctx.sleep(3600)

    small(rig, app, "in")
    rig.start(app)
    sizes = [10, 10, *SIZES]
    write(rig, *[Output("in", 0, b"k%d" % (n % 2), sized(n, size), None) for n, size in enumerate(sizes)])
    rig.settled(app)
    rig.later(3601)
    rig.until(lambda: len(set(seen)) + len(letters(rig, app)) == len(sizes))
    assert {letter["odradek-code"] for letter in letters(rig, app)} == {"413"}
    assert {letter["odradek-topic"] for letter in letters(rig, app)} == {"in"}


def test_paused_by_its_policy_unless_it_cannot_be_kept(rig: Rig) -> None:
    app = App("pausing", shards=1)
    inputs, box = app.topic("in", value=int), app.object("box")

    @box.on(inputs, on_error="pause")
    async def see(ctx: ObjectContext, value: int) -> None: ...

    small(rig, app, "in")
    rig.start(app)
    write(rig, Output("in", 0, b"small", b"no number"), Output("in", 0, b"large", b"x" * 400_000))
    rig.until(lambda: len(letters(rig, app)) == 1 and [i.status for i in rig.invocations(app)] == ["paused"])
    (letter,) = letters(rig, app)
    assert (letter["key"], letter["odradek-offset"], letter["odradek-value-bytes"]) == (b"large", "1", "400000")
    assert "not paused after" in letter["odradek-error"]


def test_keys_and_headers_count(rig: Rig) -> None:
    """A key of a megabyte has a lock and state that no topic takes, and headers may be larger than any value."""
    app = App("heads", shards=1)
    inputs, box = app.topic("in"), app.object("box")
    seen: list[bytes | None] = []

    @box.on(inputs)
    @box.handler(retry=RetryPolicy(max_attempts=1))
    async def see(ctx: ObjectContext, value: bytes) -> None:
        ctx.set(held, value)
        seen.append(ctx.record.key)
        if value == b"fails":
            await ctx.sleep(0.001)
            raise TerminalError("as asked")

    small(rig, app, "in")
    rig.start(app)
    huge, escaped = b"k" * 400_000, b"/" * 150_000
    write(
        rig,
        Output("in", 0, huge, b"v"),
        Output("in", 0, escaped, b"v"),
        Output("in", 0, b"headed", b"fails", [(f"h{n}", b"x" * 100_000) for n in range(4)]),
        Output("in", 0, b"small", b"v"),
    )
    rig.until(lambda: len(letters(rig, app)) == 3 and b"small" in seen)
    first, second, third = sorted(letters(rig, app), key=lambda letter: int(letter["odradek-offset"]))
    assert (first["key"], first["odradek-key-bytes"]) == (None, "400000")
    assert (second["key"], second["size"]) == (escaped, 1)
    assert (third["key"], "h1" in third, third["odradek-headers-bytes"]) == (b"headed", False, str(4 * 100_002))


def test_errors_of_any_size_are_told(rig: Rig) -> None:
    app = App("errors", shards=1)

    @app.handler
    async def fail(ctx: Context) -> None:
        await ctx.sleep(0.001)
        raise TerminalError("x" * 1_000_000, code=418, metadata={f"n{n}": "é" * 100_000 for n in range(20)})

    @app.handler
    async def ask(ctx: Context) -> str:
        calls = [ctx.call(fail) for _ in range(30)]
        told = set[tuple[int, bool, bool]]()
        for call in calls:
            try:
                await call
            except TerminalError as error:
                told.add((error.code, len(error.message) <= 16_384, bool(error.metadata)))
        return f"{told}"

    small(rig, app)
    rig.start(app)
    assert rig.ask("errors/ask").value() == "{(418, True, True)}"


def test_a_request_that_the_journal_cannot_keep_is_answered(rig: Rig) -> None:
    app = App("asked", shards=1)

    @app.handler
    async def take(ctx: Context, value: bytes) -> int:
        await ctx.sleep(0.001)
        return len(value)

    small(rig, app)
    rig.start(app)
    asked = {size: rig.ask("asked/take", b"x" * size) for size in (1_000, LIMIT + 1_000)}
    assert asked[1_000].value() == 1_000
    failure = asked[LIMIT + 1_000].reply().failure
    assert failure is not None
    assert (failure.code, "asked.journal" in failure.message) == (413, True)
