"""Classes whose values are known for not coming back, and some that always did."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Generic, TypeVar

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st

from tests.values.singles import Base, Derived, Typed, text

T = TypeVar("T")


class Box(msgspec.Struct, Generic[T]):
    value: T


@dataclass
class Pair(Generic[T]):
    one: T
    other: T


@dataclass
class Tree:
    value: int
    children: list[Tree]


class Leaf(msgspec.Struct, tag=True):
    size: int


class Branch(msgspec.Struct, tag=True):
    left: Leaf | Branch
    right: Leaf | Branch | None = None


trees = st.recursive(
    st.builds(Tree, st.integers(), st.just([])),
    lambda inner: st.builds(Tree, st.integers(), st.lists(inner, max_size=2)),
    max_leaves=4,
)
branches = st.recursive(
    st.builds(Leaf, st.integers()),
    lambda inner: st.builds(Branch, inner, st.none() | inner),
    max_leaves=4,
)


@dataclass
class Checked:
    """It refuses what is negative, and changes what is large."""

    amount: int

    def __post_init__(self) -> None:
        if self.amount > 10:
            self.amount += 1


@attrs.define
class Converted:
    amount: int = attrs.field(converter=abs)


@attrs.define
class Private:
    name: str
    _hidden: int = 0


class Account(pydantic.BaseModel):
    id: int = pydantic.Field(alias="accountId")
    owner: str = pydantic.Field("x", alias="Owner")


class Computed(pydantic.BaseModel, extra="forbid"):
    size: int

    @pydantic.computed_field
    def double(self) -> int:
        return self.size * 2


class Secretive(pydantic.BaseModel):
    password: pydantic.SecretStr


class Hidden(pydantic.BaseModel):
    size: int = 0
    _note: str = pydantic.PrivateAttr("")

    @classmethod
    def noted(cls, size: int, note: str) -> Hidden:
        made = cls(size=size)
        made._note = note
        return made


class Open(pydantic.BaseModel, extra="allow"):
    size: int


class Parent(pydantic.BaseModel):
    size: int


class Child(Parent):
    more: int = 0


@dataclass
class Line:
    model: Parent
    number: int


class Loose(pydantic.BaseModel):
    either: int | float | str | bytes | dt.date
    ratio: float = 0.5


class Embedded(pydantic.BaseModel):
    json_: pydantic.Json[list[int]]


KNOWN: list[Typed] = [
    Typed(Box[int], st.builds(Box, st.integers() | st.text(max_size=2))),
    Typed(Pair[str], st.builds(Pair, text, text | st.integers())),
    Typed(Tree, trees),
    Typed(Leaf | Branch, branches),
    Typed(Checked, st.builds(Checked, st.integers(0, 20))),
    Typed(Converted, st.builds(Converted, st.integers(-2, 2))),
    Typed(Private, st.builds(Private, text, st.integers())),
    Typed(Base, st.builds(Base, st.integers()) | st.builds(Derived, st.integers(), text)),
    Typed(Account, st.builds(lambda number, owner: Account(accountId=number, Owner=owner), st.integers(), st.text(max_size=3))),
    Typed(Computed, st.builds(Computed, size=st.integers())),
    Typed(Secretive, st.builds(Secretive, password=st.text(max_size=3))),
    Typed(Hidden, st.builds(Hidden.noted, st.integers(), st.sampled_from(["", "x"]))),
    Typed(
        Open, st.builds(Open, size=st.integers(), more=st.integers() | st.just(1.5) | st.just(()) | st.just(dt.date(2026, 1, 1)))
    ),
    Typed(Parent, st.builds(Parent, size=st.integers()) | st.builds(Child, size=st.integers(), more=st.integers())),
    Typed(
        Loose,
        st.builds(
            Loose.model_construct,
            either=st.integers() | st.floats() | st.text(max_size=2) | st.binary(max_size=2) | st.dates(),
            ratio=st.floats() | st.booleans(),
        ),
    ),
    Typed(Embedded, st.builds(lambda n: Embedded.model_validate({"json_": f"[{n}]"}), st.integers(0, 9))),
    Typed(Line, st.builds(Line, st.builds(Parent, size=st.integers()), st.integers())),
]
