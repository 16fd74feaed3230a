"""Types choose how values travel, and what does not fit is explained by field."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID, uuid4

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek._bad_input import BadInput
from odradek._errors import RefusedValue
from odradek._serde import Serde, decode_key, encode_any, encode_key, json_serde, key_encoder, topic_serde


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


@dataclass
class Line:
    sku: str
    price: Decimal


@dataclass
class Order:
    id: UUID
    placed: datetime
    lines: list[Line]
    colour: Colour = Colour.RED
    note: str | None = None
    tags: dict[str, int] = field(default_factory=dict[str, int])


class Point(TypedDict):
    x: int
    y: int


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


@attrs.define
class Account:
    name: str
    balance: int


class Departure(pydantic.BaseModel):
    tail: str
    delay: pydantic.PositiveInt


@dataclass
class Leg:
    flight: Departure
    number: int


@dataclass
class Tree:
    value: int
    children: list["Tree"]


ORDER = Order(uuid4(), datetime(2026, 1, 2, tzinfo=UTC), [Line("a", Decimal("1.50"))], Colour.BLUE, None, {"x": 1})


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Order, ORDER),
        (Point, {"x": 1, "y": 2}),
        (Circle | Square, Square(2.0)),
        (Account, Account("a", 3)),
        (Departure, Departure(tail="N1", delay=3)),
        (list[Departure], [Departure(tail="N1", delay=3)]),
        (Leg, Leg(Departure(tail="N1", delay=3), 7)),
        (Departure | int, Departure(tail="N1", delay=3)),
        (Tree, Tree(1, [Tree(2, [])])),
        (dict[str, Departure], {"a": Departure(tail="N1", delay=3)}),
        (int | None, None),
        (int | None, 5),
        (Literal["a", "b"], "b"),
        (Annotated[int, msgspec.Meta(gt=0)], 5),
        (Annotated[int, ["unhashable"]], 5),
        (Level, Level.LOW),
        (date, date(2026, 1, 2)),
        (str, "as JSON: ü"),
        (bytes, b"\x00raw\xff"),
        (bytes | None, b"x"),
        (bytes | None, None),
        (tuple[int, str], (1, "a")),
        (frozenset[int], frozenset({1, 2})),
        (None, None),
        (Any, {"a": [1, None]}),
    ],
)
def test_values_come_back_as_they_went(hint: Any, value: object) -> None:
    serde = json_serde(hint)
    assert serde.load(serde.encode(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_json_of_any_shape_comes_back(value: object) -> None:
    assert json_serde(Any).load(encode_any(value)) == value


def test_bytes_are_raw_and_str_is_json_in_handlers_and_text_on_topics() -> None:
    assert json_serde(bytes).encode(b"{") == topic_serde(bytes).encode(b"{") == encode_any(b"{") == b"{"
    assert json_serde(str).encode("a") == b'"a"'
    assert topic_serde(str).encode("a") == b"a"
    assert topic_serde(str).load("ü".encode()) == "ü"
    assert topic_serde(Order).load(json_serde(Order).encode(ORDER)) == ORDER


@pytest.mark.parametrize(
    ("hint", "data", "where", "what"),
    [
        (Order, b'{"id":1}', "$.id", "Expected `uuid`, got `int`"),
        (Line, b'{"sku":"a"}', "$.price", "required field is missing"),
        (list[Line], b'[{"sku":"a","price":"1"},{"sku":2,"price":"1"}]', "$[1].sku", "Expected `str`, got `int`"),
        (list[Line], b'[{"sku":"a"}]', "$[0].price", "required field is missing"),
        (dict[str, int], b'{"a":"b"}', "$[...]", "Expected `int`, got `str`"),
        (dict[int, str], b'{"a":"b"}', "$", "(the key)"),
        (Colour, b'"green"', "$", "Invalid enum value"),
        (Literal["a"], b'"b"', "$", "Invalid enum value"),
        (Circle | Square, b'{"type":"Line"}', "$.type", "Invalid value"),
        (int, b"x", "$", "expected int as JSON"),
        (int, b"", "$", "expected int as JSON"),
        (Departure, b'{"tail":"a","delay":0}', "$.delay", "greater than 0"),
        (list[Departure], b'[{"delay":1}]', "$[0].tail", "Field required"),
        (Departure, b'{"delay":"x"}', "$.tail", "$.delay: Input should be a valid integer"),
        (Leg, b'{"flight":{"tail":"a","delay":-1},"number":1}', "$.flight.delay", "greater than 0"),
    ],
)
def test_what_does_not_fit_is_named_by_field(hint: Any, data: bytes, where: str, what: str) -> None:
    with pytest.raises(BadInput) as raised:
        json_serde(hint).load(data)
    assert raised.value.field == where
    assert what in raised.value.message
    assert str(raised.value) == f"{raised.value.field}: {raised.value.message}"


def test_text_that_is_not_utf8_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"\$: expected UTF-8 text, got byte 0xff at offset 1"):
        topic_serde(str).load(b"a\xff")


@pytest.mark.parametrize("hint", [object, list[object], Any])
def test_undeclared_types_are_json(hint: Any) -> None:
    assert json_serde(hint).load(b"[1]") == [1]


class Opaque:
    pass


@pytest.mark.parametrize("hint", [Opaque, list[Opaque]])
def test_a_type_without_a_serde_is_refused_with_the_remedy(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"no serde for Opaque.*use a dataclass"):
        json_serde(hint)


def test_a_type_that_json_cannot_tell_apart_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no serde for .*Line \| .*Order"):
        json_serde(Line | Order)


def test_a_value_that_cannot_be_encoded_is_refused_with_the_remedy() -> None:
    with pytest.raises(RefusedValue, match="expected a value that has a serde, got Opaque: pass a dataclass"):
        encode_any(Opaque())
    with pytest.raises(RefusedValue, match="expected str, got int"):
        topic_serde(str).encode(3)
    with pytest.raises(RefusedValue, match="expected bytes, got str"):
        json_serde(bytes).encode("text")


def test_pydantic_models_inside_undeclared_values_are_encoded() -> None:
    assert encode_any({"d": Departure(tail="N1", delay=3)}) == b'{"d":{"tail":"N1","delay":3}}'


def test_empty_means_none_where_none_is_admitted() -> None:
    assert json_serde(int | None).load(b"") is None
    assert json_serde(None).load(b"") is None


@pytest.mark.parametrize(
    ("hint", "key", "data"),
    [
        (str, "bob", b"bob"),
        (str | None, "bob", b"bob"),
        (bytes, b"\xff", b"\xff"),
        (int, 7, b"7"),
        (UUID, UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (Colour, Colour.RED, b"red"),
        (tuple[str, int], ("a", 1), b'["a",1]'),
    ],
)
def test_keys_are_text(hint: Any, key: object, data: bytes) -> None:
    assert key_encoder(hint)(key) == data


def test_a_key_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a key: \$: expected str, got int"):
        key_encoder(str)(3)


@given(st.binary())
def test_object_keys_of_any_bytes_come_back(key: bytes) -> None:
    assert encode_key(decode_key(key)) == key


def test_serdes_are_made_once() -> None:
    assert json_serde(Order) is json_serde(Order)


@dataclass
class Part:
    n: int
    unit: str = "piece"
    tags: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    main: Part | None = None
    rank: int = 1


@pytest.mark.parametrize("make", [json_serde, topic_serde])
def test_defaults_of_what_was_read_are_written_again(make: Callable[[Any], Serde]) -> None:
    """Others read it too, and have no such defaults."""
    serde = make(Whole)
    read = serde.load(b'{"parts": [{"n": 1}]}')
    written = b'{"parts":[{"n":1,"unit":"piece","tags":[]}],"main":null,"rank":1}'
    assert json.loads(serde.encode(read)) == json.loads(written)
    assert read == serde.load(written)
    assert json.loads(serde.encode(Whole([Part(1)]))) == json.loads(written)
