"""A step's arguments, as they were when the step was asked for: what a handler changes afterwards, no run of it sees.

Data is copied: containers, dataclasses, Structs, attrs and pydantic objects, whatever they hold, and what has a
`__deepcopy__` of its own. Everything else is handed over as it is: a client, a connection, a lock, a function. Those
are tools, and a copy of one would be another one. Each run gets a copy of its own, since a run that fails may have
changed what it got.
"""

from __future__ import annotations

import array
import copy
import functools
import io
import pickle
import types
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import msgspec

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_CONTAINERS = (
    list, dict, tuple, set, frozenset, bytearray, deque, array.array, UserDict, UserList, ChainMap, io.BytesIO, io.StringIO,
    types.SimpleNamespace, functools.partial,
)  # fmt: skip
_COPYING = ("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
            "__getnewargs_ex__", "__new__")  # fmt: skip
"""By these a type says how its objects are copied."""
_KINDS_KEPT = 4096

Nature = Literal["data", "copies itself", "tool"]
Call = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


def bound(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], Any]:
    """Give what calls `fn` with these arguments as they are now, however often, whatever becomes of them.

    >>> batch = [1, 2]
    >>> call = bound(sum, (batch,), {})
    >>> batch.clear()
    >>> call(), call()
    (3, 3)
    """
    if type(fn) is types.FunctionType and not kwargs:
        if len(args) == 1 and _is_flat(args[0]):  # as a rule, and copying it takes a tenth of what follows
            return _BoundFlat(fn, args[0])
        if _PLAIN.issuperset(map(type, args)):
            return functools.partial(fn, *args)
    if not any(_changes(value) for value in (fn, *args, *kwargs.values())):
        return functools.partial(fn, *args, **kwargs)
    return _Bound(fn, args, kwargs)


class _BoundFlat:
    """A call with one argument, an object of fields that cannot change."""

    __slots__ = ("_fn", "_kept")

    def __init__(self, fn: Callable[..., Any], value: object) -> None:
        self._fn = fn
        self._kept = _flat_copy(value)

    def __call__(self) -> Any:
        return self._fn(_flat_copy(self._kept))


class _Bound:
    """A call whose arguments are data."""

    __slots__ = ("_first", "_kept")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        call: Call = (fn, args, kwargs)
        try:
            self._kept: Callable[[], Call] = _kept(call)
            self._first: Call | None = self._kept()
        except Exception:  # noqa: BLE001  (a type's own way to be copied may raise anything)
            self._kept = _each_kept(call)
            self._first = None

    def __call__(self) -> Any:
        call, self._first = self._first or self._kept(), None
        fn, args, kwargs = call
        return fn(*args, **kwargs)


def _each_kept(call: Call) -> Callable[[], Call]:
    """Keep the arguments one by one, since one of them cannot be copied: that one is handed over as it is."""
    fn, args, kwargs = call
    kept = [_kept_or_same(value) for value in (fn, *args)]
    named = {name: _kept_or_same(value) for name, value in kwargs.items()}

    def load() -> Call:
        first, *others = [value() for value in kept]
        return first, tuple(others), {name: value() for name, value in named.items()}

    return load


def _kept_or_same(value: Any) -> Callable[[], Any]:
    try:
        load = _kept(value)
        load()
    except Exception:  # noqa: BLE001  (as above)
        return lambda: value
    return load


def _kept(value: Any) -> Callable[[], Any]:
    """Keep the data in `value` as bytes; what it gives makes it anew each time."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    data, handed = file.getvalue(), pickler.handed
    return lambda: _Unpickler(data, handed).load()


class _Pickler(pickle.Pickler):
    """Writes data, and the number of whatever else comes: no class is looked up by name, so local ones do, too."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.handed: list[tuple[Any, bool]] = []
        """With whether each run gets a copy of it."""

    def persistent_id(self, obj: object) -> int | None:
        kind: type[object] = type(obj)
        if kind in _PLAIN or (nature := _nature(kind)) == "data":
            return None
        own = nature == "copies itself"
        self.handed.append((copy.deepcopy(obj) if own else obj, own))
        return len(self.handed) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, handed: list[tuple[Any, bool]]) -> None:
        super().__init__(io.BytesIO(data))
        self._handed: list[tuple[Any, bool]] = handed

    def persistent_load(self, pid: Any) -> Any:
        value, own = self._handed[int(pid)]
        return copy.deepcopy(value) if own else value


def _changes(value: object) -> bool:
    kind: type[object] = type(value)
    if kind is tuple:
        return any(_changes(part) for part in cast("tuple[object, ...]", value))
    return kind not in _PLAIN and _nature(kind) != "tool"


def _is_flat(value: object) -> bool:
    """Whether a shallow copy of an object is as good as a deep one: it is plain data, and so are all of its fields."""
    kind: type[object] = type(value)
    fields = _flat_fields(kind)
    if fields is None:
        return False
    if isinstance(value, msgspec.Struct):
        return all(type(getattr(value, name, None)) in _PLAIN for name in fields)
    return _PLAIN.issuperset(map(type, value.__dict__.values()))


def _flat_copy(value: object) -> object:
    """As `copy.copy`, of what is flat; of a dataclass in a fifth of the time."""
    if isinstance(value, msgspec.Struct):
        return copy.copy(value)
    copied = object.__new__(type(value))
    copied.__dict__.update(value.__dict__)
    return copied


def _flat_fields_of(kind: type[object]) -> tuple[str, ...] | None:
    """The fields of a Struct or of a dataclass, if its objects are copied as any are: nothing of its own has a say in it."""
    if issubclass(kind, msgspec.Struct):
        own = any(name in vars(base) for base in kind.__mro__[:-2] for name in _COPYING if base is not msgspec.Struct)
        return None if own or "__dict__" in dir(kind) else kind.__struct_fields__
    if "__dataclass_fields__" not in vars(kind) or any(hasattr(base, "__slots__") for base in kind.__mro__[:-1]):
        return None
    if issubclass(kind, _CONTAINERS) or any(getattr(kind, name, None) is not getattr(object, name, None) for name in _COPYING):
        return None
    return ()


def _nature_of(kind: type[object]) -> Nature:
    marks = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_validator__")
    if issubclass(kind, (*_CONTAINERS, msgspec.Struct)) or any(hasattr(kind, mark) for mark in marks):
        return "data"
    return "copies itself" if hasattr(kind, "__deepcopy__") and not issubclass(kind, type) else "tool"


_nature = cast("Callable[[type[object]], Nature]", functools.lru_cache(_KINDS_KEPT)(cast("Any", _nature_of)))
_flat_fields = cast(
    "Callable[[type[object]], tuple[str, ...] | None]", functools.lru_cache(_KINDS_KEPT)(cast("Any", _flat_fields_of))
)
