"""Declared names: typed state of a key, and typed promises and signals."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from typing_extensions import TypeForm

from odradek._check import is_text
from odradek._errors import UNSET
from odradek._guard import Decode, Encode
from odradek._serde import Serde, json_serde, serde_for

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
V = TypeVar("V")

_IMMUTABLE: tuple[type, ...] = (
    bool, int, float, str, bytes, type(None), Decimal, uuid.UUID, enum.Enum,
    dt.date, dt.time, dt.timedelta, dt.timezone,
)  # fmt: skip


class State(Generic[T]):
    """A typed state name of an object: `ctx.get(state)` and `ctx.set(state, value)`. Declare it once, at module level.

    Args:
        name: the name under which the key holds the value; not empty.
        type: any type hint that has a serde.
        default: what `get` gives when the key holds nothing: a value (copied each time) or a callable that makes one
            (list). Without one, `get` gives None, and setting None deletes.

    Raises:
        ValueError: the name is empty.
        TypeError: values of this type would not come back as they went in; the message says where in it, and why.

    >>> spent = State("spent", int, default=0)
    >>> tags = State("tags", list[str], default=list)
    >>> tags.name
    'tags'
    """

    __slots__ = ("_default", "_make_default", "bare", "bare_type", "decode", "deletes_none", "encode", "name", "type")

    name: str
    type: Any
    encode: Encode
    decode: Decode
    _default: Any
    _make_default: Callable[[], Any] | None
    bare_type: type | None
    """A value of exactly this type may go through `bare` instead of `encode`, for speed; where that raises, `encode` says why."""
    bare: Encode
    deletes_none: bool
    """Setting None deletes the name (it has no default, so None is what an absent one reads as)."""

    @overload
    def __new__(cls, name: str, type: TypeForm[V], /) -> State[V | None]: ...

    @overload
    def __new__(cls, name: str, type: TypeForm[V], /, default: V | Callable[[], V]) -> State[V]: ...

    def __new__(cls, name: str, type: Any, /, default: Any = UNSET) -> Any:
        if not name or not is_text(name):
            raise ValueError("State: the name is empty" if not name else f"State: the name {name!r} is no text")
        self: State[Any] = object.__new__(cls)
        self.name = name
        self.type = type
        self.deletes_none = default is UNSET
        self._default = default
        self._make_default = default if callable(default) else None
        self.bare_type = None
        try:
            self._resolve(json_serde(type))
        except NameError:  # it names a class that is defined further down: at first use, then
            self.encode = self._first_encode
            self.decode = self._first_decode
        return self

    def default(self) -> Any:
        """Give what `get` gives when the key holds nothing: a fresh value each time."""
        if self._make_default is not None:
            return self._make_default()
        if self._default is UNSET:
            return None
        return self._default if isinstance(self._default, _IMMUTABLE) else copy.deepcopy(self._default)

    def _first_encode(self, value: Any) -> bytes:
        self._resolve(serde_for(f"state {self.name!r}", self.type))
        return self.encode(value)

    def _first_decode(self, data: bytes) -> Any:
        self._resolve(serde_for(f"state {self.name!r}", self.type))
        return self.decode(data)

    def _resolve(self, serde: Serde) -> None:
        self.encode = serde.guard(f"state {self.name!r}")
        self.bare_type, self.bare = serde.guard.bare
        self.decode = serde.decode

    def __repr__(self) -> str:
        return f"State({self.name!r})"


class Name(Generic[T]):
    """A typed name of a promise or a signal: `ctx.promise(name)`, `ctx.signal(name)`.

    Raises ValueError when the name is empty.

    >>> Name("decision", bool).name
    'decision'
    """

    __slots__ = ("name", "type")

    name: str
    type: Any

    def __init__(self, name: str, type: TypeForm[T], /) -> None:
        if not name:
            raise ValueError("Name: the name is empty")
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"Name({self.name!r})"
