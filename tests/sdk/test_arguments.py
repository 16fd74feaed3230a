"""A step's arguments are copied: as they were when it was asked for, and anew for each run, whatever their type does."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from odradek._arguments import bound

T = TypeVar("T")


@dataclasses.dataclass
class Flat:
    name: str = "a"
    amount: int = 1


@dataclasses.dataclass
class Derived(Flat):
    more: float = 1.5


@dataclasses.dataclass
class Deep:
    name: str = "a"
    items: list[int] = dataclasses.field(default_factory=lambda: [1])


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str = "a"


@dataclasses.dataclass
class Boxed(Generic[T]):
    name: T


class Struct(msgspec.Struct):
    name: str = "a"


class DeepStruct(msgspec.Struct):
    items: list[int] = []
    name: str = "a"


class Open(msgspec.Struct, dict=True):
    name: str = "a"


@dataclasses.dataclass
class Telling:
    """Says itself what of it is kept."""

    name: str = "a"
    copies: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "copies": self.copies + 1}


@dataclasses.dataclass
class Building:
    """Cannot be made without its name."""

    name: str = "a"

    def __new__(cls, *_: object) -> "Building":
        made = super().__new__(cls)
        made.__dict__["born"] = [1]
        return made


def seen(value: Any) -> Any:
    return value


MADE: list[Callable[[], Any]] = [
    Flat, Derived, Deep, Slotted, functools.partial(Boxed, "a"), Struct, DeepStruct, Open, Building,
]  # fmt: skip


@pytest.mark.parametrize("make", MADE, ids=lambda make: getattr(make, "__name__", "Boxed"))
def test_each_run_gets_the_object_as_it_was(make: Callable[[], Any]) -> None:
    given = make()
    call = bound(seen, (given,), {})
    given.name = "changed by the handler"
    first = call()
    assert type(first) is type(given)
    assert first.name == "a"
    first.name = "changed by a run that failed"
    assert call().name == "a"
    assert call() is not call()


@pytest.mark.parametrize("kind", [Deep, DeepStruct])
def test_what_is_in_it_is_copied_too(kind: type[Deep] | type[DeepStruct]) -> None:
    given = kind(items=[1])
    call = bound(seen, (given,), {})
    given.items.append(2)
    call().items.append(3)
    assert call().items == [1]


def test_what_was_added_to_an_object_is_kept_and_copied() -> None:
    given = Flat()
    given.__dict__["note"] = [1]
    call = bound(seen, (given,), {})
    given.__dict__["note"].append(2)
    assert call().__dict__["note"] == [1]


def test_a_type_that_says_how_it_is_copied_is_asked() -> None:
    assert bound(seen, (Telling(),), {})().copies > 0


def test_plain_values_need_no_copy() -> None:
    call = bound(max, (3, 4), {})
    assert (call(), call()) == (4, 4)
    assert bound(dict[str, int], (), {"a": 1})() == {"a": 1}
