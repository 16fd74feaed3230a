"""What is refused, where, and what the refusal says: types where they are declared, values where they go in."""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from odradek import App, Context, ObjectContext, State, TerminalError, step
from odradek._errors import RefusedValue
from odradek._serde import json_serde, topic_serde
from tests.sdk.notes import Notes
from tests.values import classes
from tests.values.judge import same
from tests.values.singles import Base, Colour, Derived


@attrs.define
class Wallet:
    owner: str
    _cents: int = 0


class Shut(pydantic.BaseModel):
    """Its alias is for reading alone: what is written under the name is not read."""

    size: int = pydantic.Field(validation_alias="Size")


class Dropped(pydantic.BaseModel):
    size: int = pydantic.Field(0, exclude=True)


class Outer(msgspec.Struct):
    inner: classes.Parent


@dataclass
class Deep:
    wallets: list[Wallet]


class Both(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    size: int = pydantic.Field(alias="Size")


class Told(pydantic.BaseModel):
    secret: pydantic.SecretStr

    @pydantic.field_serializer("secret", when_used="json")
    def tell(self, secret: pydantic.SecretStr) -> str:
        return secret.get_secret_value()


class Point(TypedDict):
    x: int


class Place(NamedTuple):
    x: int
    y: int


Limited = Annotated[int, msgspec.Meta(ge=0)]
Pair = NewType("Pair", tuple[int, int])


@dataclass
class Mixed:
    either: Pair | Annotated[str, msgspec.Meta(max_length=2)] | None


REFUSED_TYPES = [
    (Wallet, r"at \$\._cents: private fields of an attrs class .* name it without the underscore"),
    (Deep, r"at \$\.wallets\[\.\.\.\]\._cents: private fields"),
    (classes.Secretive, r"at \$\.password: SecretStr is written as asterisks; declare str, or give the field a serializer"),
    (list[classes.Secretive], r"at \$\.password: SecretStr"),
    (Shut, r"at \$\.size: is written under one name and read under another; give it one alias"),
    (Dropped, r"at \$\.size: exclude=True leaves it out"),
    (Outer, r"pydantic"),
    (dict[tuple[int, int], str], r"at \$: its keys become text"),
    (dict[int | str, str], r"at \$: its keys become text"),
    (dict[bool, str], r"at \$: its keys become text"),
    (Literal[b"x"], r"Literal may only contain"),
    (str | dt.datetime, r"more than one str-like type"),
    (tuple[int, str] | Limited, r"at \$: a tuple of fixed length and a type with limits .* use a NamedTuple"),
    (dict[str, Mixed], r"at \$\.either: a tuple of fixed length and a type with limits"),
]


@pytest.mark.parametrize(("hint", "why"), REFUSED_TYPES)
def test_a_type_whose_values_would_not_come_back_is_refused_where_it_is_declared(hint: Any, why: str) -> None:
    with pytest.raises(TypeError, match=f"no serde for .*{why}"):
        State("name", hint)
    with pytest.raises(TypeError, match=f"topic 'in': no serde for .*{why}"):
        App("a").topic("in", value=hint)

    async def handler(ctx: Context) -> Any: ...
    async def body() -> Any: ...

    handler.__annotations__ = {"ctx": Context, "return": hint}
    body.__annotations__ = {"return": hint}
    with pytest.raises(TypeError, match=f"a/handler: no serde for .*{why}"):
        App("a").handler(handler)
    with pytest.raises(TypeError, match=f"@step .*body: no serde for .*{why}"):
        step(body)


def utc(offset_s: int) -> dt.datetime:
    return dt.datetime(1900, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=offset_s)))


REFUSED_VALUES = [
    (int, "text", "$", "expected int, got str: pass one"),
    (int, True, "$", "expected int, got bool"),
    (int, 1.0, "$", "expected int, got float"),
    (int, None, "$", "expected int, got NoneType"),
    (float, math.nan, "$", "got nan, which JSON does not have: pass None, or declare Decimal or str"),
    (list[float], [1.0, math.inf], "$[1]", "got inf, which JSON"),
    (dict[str, float | None], {"a": -math.inf}, "$.a", "got -inf, which JSON"),
    (float, 2**53 + 1, "$", "expected float, got "),
    (Base, Derived(), "$", "expected Base, got Derived, a subclass, which would come back as its base"),
    (classes.Parent, classes.Child(size=1, more=2), "$", "this Child would come back as Parent"),
    (list[int], (1,), "$", "expected list, got tuple"),
    (tuple[int, ...], [1], "$", "expected tuple, got list"),
    (bytes | None, b"", "$", "no bytes stand for None here"),
    (str, "a\ud800", "$", "lone surrogates"),
    (dict[str, list[str]], {"a": ["\ud800"]}, "$.a[0]", "lone surrogates"),
    (dt.datetime, utc(53 * 60 + 28), "$", "a datetime whose zone JSON does not carry"),
    (dt.time, dt.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "$", "a time whose zone JSON does not carry"),
    (dt.date, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "$", "expected date, got datetime, a subclass"),
    (Colour, "red", "$", "expected Colour, got str"),
    (str, Colour.RED, "$", "expected str, got Colour"),
    (Literal["a"], "b", "$", "expected one of 'a'"),
    (Point, {"x": 1, "y": 2}, "$.y", "no such key in Point"),
    (Point, {}, "$.x", "expected int, got nothing"),
    (Any, {"a": [dt.date(2026, 1, 1)]}, "$.a[0]", "declare its type"),
    (dict[str, Any], {1: 2}, "$ (a key)", "expected str"),
    (dict, {1: 2}, "$ (a key)", "expected str as a key, got int: declare the keys' type"),
    (list[classes.Tree], [classes.Tree(1, [classes.Tree("x", [])])], "$[0].children[0].value", "expected int"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (classes.Checked, classes.Checked(11), "$.amount", "this int would come back as another one"),
    (classes.Hidden, classes.Hidden.noted(1, "x"), "$._note", "this str would come back as another one"),
    (classes.Loose, classes.Loose.model_construct(either=1, ratio=math.nan), "$.ratio", "Input should be a valid number"),
    (classes.Loose, classes.Loose(either=b"x"), "$.either", "this bytes would come back as str"),
]


@pytest.mark.parametrize(("hint", "value", "field", "why"), REFUSED_VALUES)
def test_a_value_that_would_not_come_back_is_refused_with_field_and_remedy(hint: Any, value: Any, field: str, why: str) -> None:
    with pytest.raises(RefusedValue) as raised:
        json_serde(hint).guard("state 'x'")(value)
    assert raised.value.field == field
    assert raised.value.message.startswith(f"state 'x': {field}: ")
    assert why in raised.value.message
    assert isinstance(raised.value, TerminalError)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("hint", "value", "data"),
    [
        (classes.Account, classes.Account(accountId=1, Owner="o"), b'{"accountId":1,"Owner":"o"}'),
        (classes.Computed, classes.Computed(size=2), b'{"size":2}'),
        (classes.Embedded, classes.Embedded.model_validate({"json_": "[1]"}), b'{"json_":"[1]"}'),
        (Both, Both(Size=1), b'{"size":1}'),  # as it was written before: both names are read
        (Told, Told(secret=pydantic.SecretStr("s")), b'{"secret":"s"}'),
        (float, 5, b"5"),
        (int, 2**70, b"1180591620717411303424"),
        (bytes | None, None, b""),
        (dt.datetime, dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), b'"2026-10-25T02:30:00+01:00"'),
        (Decimal, Decimal("-Infinity"), b'"-Infinity"'),
        (classes.Leaf | classes.Branch, classes.Branch(classes.Leaf(1)), None),
        (Place | Limited, Place(1, 2), b"[1,2]"),
        (list[int] | Limited, [1, 2], b"[1,2]"),
    ],
)
def test_what_used_to_be_lost_comes_back(hint: Any, value: Any, data: bytes | None) -> None:
    serde = json_serde(hint)
    written = serde.encode(value)
    assert data in (None, written)
    back: Any = serde.load(written)
    assert type(back) is (float if hint is float else type(value))
    assert same(value, back)


def test_on_topics_bytes_may_be_empty_and_text_is_text() -> None:
    assert topic_serde(bytes | None).load(topic_serde(bytes | None).encode(b"")) == b""
    with pytest.raises(RefusedValue, match="lone surrogates"):
        topic_serde(str).encode("\ud800")
    with pytest.raises(RefusedValue, match="expected str, got Colour"):
        topic_serde(str).encode(Colour.RED)


def test_setting_none_deletes_also_where_none_is_the_type() -> None:
    notes = Notes(key=b"k")
    ObjectContext(notes, "a/b").set(State("nothing", type(None)), None)
    assert notes.state.get("nothing") is None


def test_what_is_stored_already_is_read_as_before() -> None:
    for hint, data, value in (
        (float, b"1", 1.0),
        (bytes | None, b"", None),
        (int | None, b"", None),
        (int | None, b"null", None),
        (Both, b'{"Size":1}', Both(Size=1)),
        (Base, b'{"a":3,"more":"ignored"}', Base(3)),
    ):
        assert json_serde(hint).load(data) == value


def test_a_class_that_is_defined_further_down_is_checked_at_first_use() -> None:
    @dataclass
    class Early:
        late: "Late"  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    state = State("early", Early)
    with pytest.raises(RefusedValue, match="state 'early': type: name 'Late' is not defined"):
        state.encode(Early(1))
    globals()["Late"] = int
    try:
        assert state.decode(state.encode(Early(1))) == Early(1)
    finally:
        del globals()["Late"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ctx: ctx.set(State("n", int), "text"),
        lambda ctx: ctx.set(State("n", str), "\ud800"),
        lambda ctx: ctx.set("n", math.nan),
        lambda ctx: ctx.set("n", [object()]),
        lambda ctx: ctx.publish(App("a").topic("out", value=int), "text"),
        lambda ctx: ctx.publish(App("a").topic("out"), b"", key=7),
        lambda ctx: ctx.publish(App("a").topic("out"), b"", headers={"a": "\ud800"}),
        lambda ctx: ctx.publish(App("a").topic("out"), b"", headers={"a": 5}),
        lambda ctx: ctx.call("other/handler", math.nan, returns=int),
        lambda ctx: ctx.call("other/handler", 1, returns=Wallet),
        lambda ctx: ctx.send("other/handler", 1, key="\ud800"),
        lambda ctx: ctx.send("other/handler", 1, headers={"a": 5}),
        lambda ctx: ctx.run(len, "a", returns=Wallet),
        lambda ctx: ctx.get("n", Wallet),
        lambda ctx: ctx.publish(App("a").topic("out"), b"", timestamp=dt.datetime(2026, 1, 1)),  # noqa: DTZ001
    ],
)
def test_it_is_terminal_wherever_it_is_raised(wrong: Callable[[Any], object]) -> None:
    with pytest.raises(TerminalError):
        wrong(ObjectContext(Notes(key=b"k"), "a/b"))
