"""A grammar of types: draws type hints with values of theirs, and values that are not quite theirs.

Classes are made anew for each, of every kind that has a serde. What no serde takes (a type that two kinds of value would
share, say) is drawn too: it has to be refused.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, NotRequired, Optional, TypedDict, Union

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st

from odradek._serde import json_serde
from tests.values.classes import KNOWN
from tests.values.judge import mutated
from tests.values.singles import SINGLES, Typed, odd

Draw = Callable[[st.SearchStrategy[Any]], Any]
_numbers = itertools.count()


def _annotated(inner: dict[str, Typed]) -> dict[str, Any]:
    return {name: typed.hint for name, typed in inner.items()}


def _builds(cls: Any, inner: dict[str, Typed]) -> st.SearchStrategy[Any]:
    return st.builds(lambda **fields: cls(**fields), **{name: typed.values for name, typed in inner.items()})


def _dataclass(name: str, inner: dict[str, Typed]) -> Typed:
    cls = dataclasses.make_dataclass(name, list(_annotated(inner).items()))
    return Typed(cls, _builds(cls, inner))


def _slots(name: str, inner: dict[str, Typed]) -> Typed:
    cls = dataclasses.make_dataclass(name, list(_annotated(inner).items()), slots=True, frozen=True)
    return Typed(cls, _builds(cls, inner))


def _struct(name: str, inner: dict[str, Typed]) -> Typed:
    cls = msgspec.defstruct(name, list(_annotated(inner).items()), rename="camel")
    return Typed(cls, _builds(cls, inner))


def _array_struct(name: str, inner: dict[str, Typed]) -> Typed:
    cls = msgspec.defstruct(name, list(_annotated(inner).items()), array_like=True, forbid_unknown_fields=True)
    return Typed(cls, _builds(cls, inner))


def _attrs(name: str, inner: dict[str, Typed]) -> Typed:
    cls = attrs.define(type(name, (), {"__annotations__": _annotated(inner)}))
    return Typed(cls, _builds(cls, inner))


def _typed_dict(name: str, inner: dict[str, Typed]) -> Typed:
    hints: dict[str, Any] = {field: NotRequired[typed.hint] if field == "b_2" else typed.hint for field, typed in inner.items()}
    make: Any = TypedDict
    cls = make(name, hints)
    optional = {field: typed.values for field, typed in inner.items() if field == "b_2"}
    required = {field: typed.values for field, typed in inner.items() if field != "b_2"}
    return Typed(cls, st.fixed_dictionaries(required, optional={**optional, "extra": st.just(1)}))


def _named_tuple(name: str, inner: dict[str, Typed]) -> Typed:
    cls: Any = NamedTuple(name, list(_annotated(inner).items()))
    return Typed(cls, _builds(cls, inner))


def _pydantic(name: str, inner: dict[str, Typed]) -> Typed:
    fields: dict[str, Any] = {field: (typed.hint, ...) for field, typed in inner.items()}
    try:
        cls = pydantic.create_model(name, **fields)
    except pydantic.PydanticUserError:  # it does not know the type of a field
        return _dataclass(name, inner)
    return Typed(cls, st.builds(lambda **given: cls.model_construct(**given), **{f: t.values for f, t in inner.items()}))


CLASSES = [_dataclass, _slots, _struct, _array_struct, _attrs, _typed_dict, _named_tuple, _pydantic]
NAMES = ["a", "b_2", "longer_name"]


@st.composite
def types(draw: Draw, depth: int = 2) -> Typed:
    """Draw a type."""
    kind: int = draw(st.integers(0, 11)) if depth else 0
    if kind <= 3:
        single: Typed = draw(st.sampled_from(SINGLES if kind < 3 else KNOWN))
        return single
    inner: Typed = draw(types(depth - 1))
    if kind == 11:
        names = draw(st.sampled_from([NAMES[:1], NAMES[:2], NAMES]))
        make: Callable[[str, dict[str, Typed]], Typed] = draw(st.sampled_from(CLASSES))
        return make(f"Made{next(_numbers)}", {name: _with_serde(draw(types(depth - 1))) for name in names})
    return _container(draw, kind, inner, draw(types(depth - 1)), draw(st.sampled_from(SINGLES)))


def _container(draw: Draw, kind: int, inner: Typed, other: Typed, single: Typed) -> Typed:
    one: Any = inner.hint
    if kind == 4:
        return Typed(list[one], st.lists(inner.values, max_size=3))
    if kind == 5:
        return Typed(tuple[one, other.hint], st.tuples(inner.values, other.values))  # type: ignore[name-defined]
    if kind == 6:
        return Typed(tuple[one, ...], st.lists(inner.values, max_size=3).map(tuple))
    if kind == 7:
        return Typed(dict[single.hint, one], _dicts(single.values, inner.values))  # type: ignore[name-defined]
    if kind == 8:
        return Typed(Optional[one], st.none() | inner.values)  # noqa: UP045  (drawn)
    if kind == 9:
        return Typed(Union[one, other.hint], inner.values | other.values)  # noqa: UP007  # type: ignore[name-defined]
    kind_of_set: Any = draw(st.sampled_from([set, frozenset]))
    return Typed(kind_of_set[single.hint], st.lists(single.values, max_size=3).map(lambda items: _set(kind_of_set, items)))


def _with_serde(typed: Typed) -> Typed:
    """Give a type that has a serde.

    msgspec loses references to None with each class that it refuses, and a test refuses thousands.
    """
    try:
        json_serde(typed.hint)
    except TypeError:
        return Typed(int, st.integers())
    return typed


def _dicts(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(keys, values), max_size=3).map(lambda pairs: {k: v for k, v in pairs if _hashable(k)})


def _set(kind: Any, items: list[Any]) -> Any:
    return kind(item for item in items if _hashable(item))


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):  # a list; Decimal("sNaN")
        return False
    return True


@st.composite
def cases(draw: Draw) -> tuple[Any, Any]:
    """Draw a type and a value: mostly one of its own, else one of another type, or one with a foreign part in it."""
    typed = draw(types())
    way = draw(st.integers(0, 5))
    if way == 0:
        return typed.hint, draw(odd)
    value = draw(typed.values)
    if way == 1:
        value = mutated(value, draw(odd), draw(st.integers(0, 7)))
    return typed.hint, value
