"""The lane uses an invocation and its context again for the next record: nobody may notice."""

import asyncio
import gc
import logging
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, State, TerminalError, current
from odradek_runtime.log.embedded.framing import EmbeddedMessage
from tests.engine.harness import Rig

RECORDS = [(f"k{number % 3}", number) for number in range(60)]
"""As many as one run of a lane takes, and some."""
VALUE = b"of one that has ended"


def test_a_context_that_was_kept_stays_the_one_of_its_record(rig: Rig) -> None:
    kept: list[ObjectContext] = []
    app = App("keep", shards=1)

    @app.object("keeper").on(app.topic("words", value=int))
    async def keep(ctx: ObjectContext, _: int) -> None:
        if len(kept) % 2 == 0 or ctx.key == "k1":
            kept.append(ctx)

    rig.start(app)
    rig.publish("words", *RECORDS)
    rig.settled(app)
    found = [(ctx.key, ctx.record.offset) for ctx in kept]
    assert len(set(found)) == len(found)
    assert all(RECORDS[offset][0] == key for key, offset in found)


def test_what_is_kept_of_a_context_is_no_other_records(rig: Rig) -> None:
    """A logger, a bound method, a coroutine nobody awaited: each holds its own invocation."""
    kept: list[Any] = []
    app = App("keep", shards=1)
    count = State("count", int, default=0)

    @app.object("keeper").on(app.topic("words", value=int))
    async def keep(ctx: ObjectContext, word: int) -> None:
        kept.append((word, [ctx.logger, lambda: ctx.record.offset, ctx.get][word % 3]))
        ctx.set(count, ctx.get(count) + 1)

    rig.start(app)
    rig.publish("words", *RECORDS)
    rig.until(lambda: len(kept) == len(RECORDS))
    rig.settled(app)
    loggers = {id(what) for word, what in kept if word % 3 == 0}
    assert len(loggers) == 20, "each its own"
    assert [what() for word, what in kept if word % 3 == 1] == [word for word, _ in kept if word % 3 == 1]


def test_chance_ids_and_records_are_each_records_own(rig: Rig) -> None:
    seen: list[tuple[str, str, float, int]] = []
    app = App("own", shards=1)

    @app.object("owner").on(app.topic("words", value=int))
    async def own(ctx: ObjectContext, word: int) -> None:
        if word % 2:  # the others leave nothing behind: the context of the record before them may serve them
            seen.append((ctx.invocation_id, str(ctx.uuid()), ctx.random.random(), ctx.record.offset))
        assert current() is ctx

    rig.start(app)
    rig.publish("words", *RECORDS)
    rig.until(lambda: len(seen) == len(RECORDS) // 2)
    for column in zip(*seen, strict=True):
        assert len(set(column)) == len(seen)
    assert [offset for *_, offset in seen] == list(range(1, len(RECORDS), 2))


def test_nothing_of_a_record_that_failed_stays_for_the_next(rig: Rig) -> None:
    app = App("fail", shards=1)
    out, total = app.topic("out", value=int), State("total", int, default=0)
    failed: set[int] = set()

    @app.object("adder").on(app.topic("words", value=int))
    async def add(ctx: ObjectContext, word: int) -> None:
        ctx.publish(out, word)
        ctx.set(total, ctx.get(total) + 1)
        if word not in failed and word % 7 == 0:
            failed.add(word)
            raise OSError("not now")
        if word % 5 == 0:
            await ctx.sleep(0.001)

    rig.start(app)
    rig.publish("words", *RECORDS)
    rig.until(lambda: len(rig.records("out")) == len(RECORDS))
    rig.settled(app)
    assert sorted(int(m.value() or b"") for m in rig.records("out")) == list(range(len(RECORDS)))
    assert sum(rig.state(app, "adder", f"k{key}", "total") for key in range(3)) == len(RECORDS)


def test_a_handler_that_has_waited_ends_as_its_own(rig: Rig) -> None:
    """It began in the lane, among others: what it returns or raises later is its own end and nobody else's."""
    app = App("ends", shards=1)
    out, ended = app.topic("out", value=str), State("ended", str)
    left: list[int] = []

    @app.object("waiter").on(app.topic("words", value=int))
    async def wait(ctx: ObjectContext, word: int) -> None:
        try:
            if word % 4 == 1:
                await ctx.sleep(0.001)
            if word % 4 == 3:
                await asyncio.to_thread(str)  # which is refused
            if word % 8 == 5:
                raise TerminalError(f"{word} fails after its wait")
            if word % 8 == 2:
                raise TerminalError(f"{word} fails at once")
            ctx.set(ended, str(word))
            ctx.publish(out, str(word), key=ctx.key)
        finally:
            left.append(word)

    rig.start(app)
    rig.publish("words", *RECORDS)
    expected = [word for _, word in RECORDS if word % 8 not in (2, 3, 5, 7)]
    rig.until(lambda: len(rig.records("out")) == len(expected))
    rig.settled(app)
    assert sorted(int(m.value() or b"") for m in rig.records("out")) == expected
    assert set(left) == set(range(len(RECORDS))), "each handler was left"
    for key in range(3):
        assert rig.state(app, "waiter", f"k{key}", "ended") == str(max(word for word in expected if word % 3 == key))


def test_a_handler_that_waits_does_not_hold_the_records_beside_its_own(rig: Rig) -> None:
    app = App("hold", shards=1)
    reached: list[str] = []

    @app.object("sleeper").on(app.topic("words", value=str))
    async def sleep(ctx: ObjectContext, word: str) -> None:
        reached.append(ctx.key)
        if ctx.key == "k0":
            await ctx.sleep(3600)

    rig.start(app)
    rig.publish("words", ("k0", "of the one that waits"), *[(f"k{number}", VALUE.decode()) for number in range(1, 50)])
    rig.until(lambda: len(reached) == 50)

    def held() -> int:
        gc.collect()
        return sum(1 for one in gc.get_objects() if isinstance(one, EmbeddedMessage) and one.value() == VALUE)

    rig.until(lambda: held() <= 1)  # the last one's context is the current one until another is


def test_handlers_without_a_key_take_the_lane_too(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    app = App("plain", shards=2)
    out = app.topic("out", value=int)

    @app.on(app.topic("words", value=int))
    async def pass_on(ctx: Context, word: int) -> None:
        ctx.logger.info("passing on %s", word)
        ctx.publish(out, word, key=ctx.invocation_id)

    with caplog.at_level(logging.INFO, "odradek"):
        rig.start(app)
        rig.publish("words", *RECORDS)
        rig.until(lambda: len(rig.records("out")) == len(RECORDS))
    assert len({m.key() for m in rig.records("out")}) == len(RECORDS)
    ids = [vars(r)["invocation_id"] for r in caplog.records if r.msg == "passing on %s"]
    assert len(set(ids)) == len(RECORDS)
