"""A bad record stops nobody: it goes where its subscription says, with the error in its headers, and the next one runs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.log.port import Output
from tests.engine.harness import Rig


@dataclass
class Order:
    id: str
    amount: int


class Picky:
    """A type whose constructor raises what no decoder expects."""


@dataclass
class Exploding:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError("negative")


def keyed_by(order: Order) -> str:
    if order.amount == 99:
        raise ZeroDivisionError("99")
    return order.id


def bakery(on_error: Any = "dead_letter", dead_letter: str | None = None, key: Callable[[Order], str] | None = None) -> App:
    app = App("bakery", shards=1)
    orders, out, shelf = app.topic("orders", value=Order), app.topic("out", value=str), app.object("shelf")

    @shelf.on(orders, on_error=on_error, dead_letter=dead_letter, key=key)
    async def bake(ctx: ObjectContext, order: Order) -> None:
        ctx.publish(out, order.id)
        if order.amount == 13:
            raise TerminalError("unlucky", code=422, metadata={"n": "13", "field": "$.amount"})

    return app


GOOD = ("k", {"id": "good", "amount": 1})
BAD = {
    "not JSON": ("k", b"{,", "400", "$", "malformed"),
    "empty": ("k", b"", "400", "$", "expected Order"),
    "wrong type": ("k", b'{"id":"x","amount":"many"}', "400", "$.amount", "`int`"),
    "missing field": ("k", b'{"id":"x"}', "400", "$.amount", "amount"),
    "tombstone": ("k", None, "400", "$", "tombstone"),
    "not UTF-8": ("k", b'{"id":"\xff","amount":1}', "400", "$", "UTF-8"),
    "no key": (None, b'{"id":"x","amount":1}', "400", "key", "the record has no key, and shelf/bake needs one"),
    "empty key": ("", b'{"id":"x","amount":1}', "400", "key", "the record has no key"),
    "terminal": ("k", b'{"id":"x","amount":13}', "422", "$.amount", "unlucky"),
}


@pytest.mark.parametrize("dead_letter", [None, "elsewhere"])
@pytest.mark.parametrize("kind", list(BAD))
def test_dead_letters(rig: Rig, kind: str, dead_letter: str | None) -> None:
    key, value, code, field, says = BAD[kind]
    app = bakery(dead_letter=dead_letter)
    rig.start(app)
    publisher = rig.log.publisher("p")
    raw = None if key is None else key.encode()
    publisher.publish(
        [
            Output("orders", 0, raw, value, [("mine", b"1"), ("empty", None)], 1_600_000_000_000),
            Output("orders", 0, b"k", b'{"id":"good","amount":1}'),
        ],
        1,
    )
    publisher.close()
    rig.until(lambda: b"good" in [m.value() for m in rig.records("out")])
    rig.settled(app)
    (letter,) = rig.records(dead_letter or "bakery.dead-letters")
    if dead_letter is not None:
        assert rig.records("bakery.dead-letters") == []
    assert (letter.key(), letter.value()) == (raw, value)
    headers = letter.headers() or []
    told = dict(headers)
    error = (told.pop("odradek-error") or b"").decode()
    assert says in error
    expected = {
        "odradek-code": code.encode(),
        "odradek-app": b"bakery",
        "odradek-handler": b"shelf/bake",
        "odradek-topic": b"orders",
        "odradek-partition": b"0",
        "odradek-offset": b"0",
        "odradek-timestamp-ms": b"1600000000000",
        "odradek-attempts": b"0",
        "odradek-field": field.encode(),
        "mine": b"1",
        "empty": None,
    }
    if kind == "terminal":
        expected["odradek-metadata"] = b'{"n": "13"}'
    assert told == expected
    assert headers[-2:] == [("mine", b"1"), ("empty", None)], "the record's own headers, last and in order"
    rig.until(lambda: rig.worker.metrics.dead_letters == 1)
    assert rig.journal(app) == {}


@pytest.mark.parametrize("kind", list(BAD))
def test_skip(rig: Rig, kind: str) -> None:
    key, value, *_ = BAD[kind]
    app = bakery(on_error="skip")
    rig.start(app)
    rig.publish("orders", (key, value), GOOD)
    rig.until(lambda: b"good" in [m.value() for m in rig.records("out")])
    rig.settled(app)
    rig.until(lambda: rig.worker.metrics.skipped == 1)
    assert rig.records("bakery.dead-letters") == []
    assert rig.journal(app) == {}


@pytest.mark.parametrize("kind", list(BAD))
def test_pause_holds_the_key_and_nobody_else(rig: Rig, kind: str) -> None:
    key, value, code, _, says = BAD[kind]
    app = bakery(on_error="pause")
    rig.start(app)
    rig.publish("orders", (key, value), GOOD, ("other", {"id": "other", "amount": 1}))
    rig.until(lambda: rig.paused(app) and b"other" in [m.value() for m in rig.records("out")])
    rig.settled(app)
    (paused,) = rig.paused(app)
    assert paused.pause == "bad_input"
    assert says in paused.reason
    assert (code == "400") or paused.reason.startswith(code)
    if key:
        assert [m.value() for m in rig.records("out")] == [b"other"], "its key waits, what it did is dropped"
    assert rig.records("bakery.dead-letters") == []
    rig.restart(app, crash=True)
    rig.settled(app)
    assert [i.status for i in rig.invocations(app) if i.id == paused.id] == ["paused"], "until somebody helps"


def test_key_functions_that_fail(rig: Rig) -> None:
    app = bakery(key=keyed_by)
    rig.start(app)
    rig.publish("orders", ("k", {"id": "", "amount": 1}), ("k", {"id": "x", "amount": 99}), ("k", {"id": "good", "amount": 1}))
    rig.until(lambda: [m.value() for m in rig.records("out")] == [b"good"])
    told = [(letter["odradek-field"], letter["odradek-error"]) for letter in rig.dead_letters(app)]
    assert [field for field, _ in told] == ["key", "key"]
    assert "not empty" in told[0][1] and "ZeroDivisionError" in told[1][1]


def test_a_handler_that_raises_for_ever_goes_to_the_dead_letters_when_its_policy_says(rig: Rig) -> None:
    app = App("forever", shards=1)
    inputs, out = app.topic("in", value=int), app.topic("out", value=int)
    service = app.service("work")

    @service.on(inputs)
    async def take(ctx: Context, n: int) -> None:
        ctx.publish(out, n)
        if n == 1:
            raise ValueError("for ever")

    handler = app.handlers()["work/take"]
    handler.retry = RetryPolicy(max_attempts=4, initial=0.001)
    rig.start(app)
    rig.publish("in", ("k", 1), ("k", 2))
    rig.until(lambda: rig.dead_letters(app))
    (letter,) = rig.dead_letters(app)
    assert re.fullmatch(r"gave up after 4 attempts: ValueError \(in the worker's log: inv_\w+\)", letter["odradek-error"])
    assert (letter["odradek-code"], letter["odradek-attempts"], letter["value"]) == ("500", "4", "1")
    assert rig.values("out") == [2]


def test_a_decoder_that_raises_anything_at_all_is_a_bad_record(rig: Rig) -> None:
    app = App("exploding", shards=1)
    inputs, out = app.topic("in", value=Exploding), app.topic("out", value=int)

    @app.on(inputs)
    async def take(ctx: Context, value: Exploding) -> None:
        ctx.publish(out, value.n)

    @app.handler
    async def called(ctx: Context, value: Exploding) -> int:
        return value.n

    rig.start(app)
    rig.publish("in", ("k", {"n": -1}), ("k", {"n": 2}))
    rig.until(lambda: rig.values("out") == [2])
    (letter,) = rig.dead_letters(app)
    assert (letter["odradek-code"], letter["value"]) == ("400", '{"n":-1}')
    failure = rig.ask("exploding/called", {"n": -1}).reply().failure
    assert failure is not None and failure.code == 400
    assert rig.call("exploding/called", {"n": 3}) == 3


def test_a_command_nobody_can_read_is_a_dead_letter(rig: Rig) -> None:
    app = bakery()
    rig.start(app)
    rig.publish("bakery.commands", ("k", b"not a command"), partition=0)
    rig.publish("orders", GOOD)
    rig.until(lambda: rig.records("out") and rig.dead_letters(app))
    (letter,) = rig.dead_letters(app)
    assert letter["odradek-topic"] == "bakery.commands"
    assert "no command that this version of odradek knows" in letter["odradek-error"]


def test_a_long_error_is_cut_and_odd_text_survives(rig: Rig) -> None:
    app = App("long", shards=1)
    inputs = app.topic("in", value=int)

    @app.on(inputs)
    async def take(ctx: Context, n: int) -> None:
        raise TerminalError("é\udcff" * 5000, metadata={"k": "\udcff"})

    rig.start(app)
    rig.publish("in", ("k", 1))
    rig.until(lambda: rig.records("long.dead-letters"))
    (letter,) = rig.records("long.dead-letters")
    assert len(dict(letter.headers() or ())["odradek-error"] or b"") <= 4096


def test_the_largest_record_that_fits_its_topic_still_fits_the_dead_letters(rig: Rig) -> None:
    """Its headers make the dead letter larger than the record was: the app's own topics take more than their inputs."""
    rig.log.create_topic("orders", 1, {})
    app = bakery()
    rig.start(app)
    rig.publish("orders", ("k", b"x" * 1_048_450), GOOD)
    rig.until(lambda: [m.value() for m in rig.records("out")] == [b"good"])
    rig.settled(app)
    (letter,) = rig.records("bakery.dead-letters")
    assert letter.value() == b"x" * 1_048_450
    told = dict(letter.headers() or ())
    assert (told["odradek-offset"], told["odradek-topic"]) == (b"0", b"orders")
