"""Types without parts and their values, and values that turn up where another one was meant."""

import collections
import datetime as dt
import enum
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import strategies as st


@dataclass(frozen=True)
class Typed:
    """A hint, and a strategy of values that somebody who reads the hint would pass."""

    hint: Any
    values: st.SearchStrategy[Any]


zones = st.sampled_from([
    None, dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), dt.timezone(dt.timedelta(hours=-7)),
    dt.timezone(dt.timedelta(minutes=53, seconds=28)),
])  # fmt: skip
text = st.text(st.characters(), max_size=8)
broken_text = st.sampled_from(["\ud800", "a\udfff", "\udc80"])


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tag(enum.StrEnum):
    A = "a"


class Flags(enum.Flag):
    X = 1
    Y = 2


class Halves(enum.Enum):
    """No JSON: msgspec refuses it."""

    HALF = 0.5


SINGLES: list[Typed] = [
    Typed(int, st.integers() | st.integers(-(2**70), 2**70)),
    Typed(float, st.floats() | st.integers(-5, 5) | st.integers(2**53, 2**70)),
    Typed(bool, st.booleans()),
    Typed(str, text | broken_text),
    Typed(bytes, st.binary(max_size=8)),
    Typed(bytearray, st.binary(max_size=8).map(bytearray)),
    Typed(None, st.none()),
    Typed(Decimal, st.decimals()),
    Typed(uuid.UUID, st.uuids()),
    Typed(dt.date, st.dates()),
    Typed(dt.time, st.times(timezones=zones)),
    Typed(dt.datetime, st.datetimes(timezones=zones)),
    Typed(dt.timedelta, st.timedeltas()),
    Typed(Colour, st.sampled_from(Colour)),
    Typed(Level, st.sampled_from(Level)),
    Typed(Tag, st.sampled_from(Tag)),
    Typed(Flags, st.sampled_from([Flags.X, Flags.X | Flags.Y, Flags(0)])),
    Typed(Halves, st.sampled_from(Halves)),
    Typed(Literal["a", "b"], st.sampled_from(["a", "b"])),
    Typed(Literal[1, None, "a"], st.sampled_from([1, None, "a"])),
    Typed(Literal[True, 2], st.sampled_from([True, 2])),
    Typed(Annotated[int, msgspec.Meta(ge=0)], st.integers(-3, 3)),
    Typed(Annotated[str, msgspec.Meta(max_length=2)], st.text(max_size=3)),
    Typed(complex, st.complex_numbers()),
    Typed(Any, st.deferred(lambda: plain_json | odd)),
    Typed(object, st.deferred(lambda: plain_json)),
]

plain_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


class Bag(dict[str, Any]):
    """A dict of another class."""


class Number(int):
    """An int of another class."""


@dataclass
class Base:
    a: int = 1


@dataclass
class Derived(Base):
    more: str = "x"


odd: st.SearchStrategy[Any] = st.sampled_from([
    math.nan, math.inf, -math.inf, True, 1, 1.0, 0, "", "1", b"", b"x", None, (), [], {}, set(), (1, "a"), {1: 2}, {"a": (1,)},
    Decimal("NaN"), Decimal("1.50"), dt.datetime(2026, 1, 1),  # noqa: DTZ001  (naive)
    dt.date(2026, 1, 1), Colour.RED, Level.LOW, Tag.A,
    Bag(a=1), Number(5), collections.OrderedDict(a=1), collections.defaultdict(int, a=1), collections.Counter("a"),
    range(3), object(), Base(), Derived(), [math.nan], {"a": math.inf}, [[(1,)]], 2**64, 2**53 + 1, 1e308, "\ud800",
    frozenset({1}), {"\ud800": 1}, [b"x"], dt.timedelta(1), uuid.UUID(int=1), bytearray(b"x"), memoryview(b"x"), 1 + 2j,
])  # fmt: skip
"""Values that turn up where another one was meant."""
