"""A check: which values of one type come back from JSON as they went in. Stands before the encoder; made by `_checks`.

The rule is exactness: a value has the very type that decoding gives. A subclass would come back as its base, a tuple as
a list, NaN as null. One exception, as in Python's own typing: a float may be given as an int, if it is that number.

`Check.ok` is on the hot path and says yes or no. Only after a no is the value walked again, to tell where (`mismatch`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from typing import Any

import msgspec

Ok = Callable[[Any], bool]
Part = tuple[str, Any, "Check"]
"""A step of a path (".price", "[0]"), the value there, and its check."""

kind_of: Callable[[Any], Any] = type
"""`type`, for type checkers: they take what follows from it for granted, which is what is checked here."""

_NO_PARTS: tuple[Part, ...] = ()
_DATETIME, _UTC = dt.datetime, dt.UTC


class Check:
    """The values of one type that come back. `expected` and `way_out` are for the message to who passes another one."""

    __slots__ = ("expected", "kinds", "ok", "only_kinds", "parts", "source", "way_out")

    def __init__(self, expected: str, kinds: Iterable[type] = (), ok: Ok | None = None, way_out: str = "") -> None:
        self.expected = expected
        self.way_out = way_out
        self.kinds = frozenset(kinds)
        """The exact types of these values; none for those of undeclared type."""
        self.only_kinds = ok is None and bool(self.kinds)
        """To have one of these types is all there is to check."""
        self.ok: Ok = ok or _of_kinds(self.kinds)
        self.source: tuple[str, dict[str, Any]] | None = None
        """`ok` as an expression of `v`, and its names: where there is one, it can be compiled into more than `ok`."""
        self.parts: Callable[[Any], Iterable[Part]] = lambda _: _NO_PARTS

    def before(self, dump: Callable[[Any], bytes]) -> Callable[[Any], bytes | None]:
        """Give `dump` with this check before it, in one call where that can be: None for what is not ok."""
        if self.source is not None:
            expression, names = self.source
            return compiled(f"dump(v) if {expression} else None", {**names, "dump": dump})
        return lambda value: dump(value) if self.ok(value) else None


def compiled(expression: str, names: dict[str, Any]) -> Callable[[Any], Any]:
    """Make a function of `v` from an expression, as `dataclasses` makes methods. It holds nothing from outside but in `names`."""
    function: Callable[[Any], Any] = eval(f"lambda v: {expression}", names)  # noqa: S307  (field names, checked or quoted)
    return function


def _of_kinds(kinds: frozenset[type]) -> Ok:
    if len(kinds) == 1:
        (only,) = kinds
        return lambda value: kind_of(value) is only
    return lambda value: kind_of(value) in kinds


class Mismatch(Exception):
    """Where a value is not what its type says: `field` is a JSON path, `reason` what is wrong there and the way out."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def mismatch(check: Check, value: Any, path: str = "$") -> Mismatch:
    """Find what `check` refuses in `value`: the innermost part that is not ok."""
    for step, part, inner in check.parts(value):
        if not inner.ok(part):
            return mismatch(inner, part, path + step)
    return Mismatch(path, f"expected {check.expected}, got {_told(check, value)}")


def not_text(check: Check, value: Any, path: str = "$") -> Mismatch | None:
    """Find a str in `value` that has no bytes in UTF-8."""
    if kind_of(value) is str and not is_text(value):
        return Mismatch(path, "this str holds lone surrogates, which UTF-8 does not have: pass text, or declare bytes")
    found = (not_text(inner, part, path + step) for step, part, inner in check.parts(value))
    return next((one for one in found if one is not None), None)


def _told(check: Check, value: Any) -> str:
    """What a value is, without showing it: it may be a secret, and messages travel."""
    kind = kind_of(value)
    name = kind.__qualname__
    if kind is float and not isfinite(value):
        return f"{value}, which JSON does not have: pass None, or declare Decimal or str"
    if kind in (dt.datetime, dt.time) and kind in check.kinds:
        return f"a {name} whose zone JSON does not carry (no offset, or one with seconds): pass it in UTC"
    way_out = check.way_out or "pass one, or declare the type that the value has"
    if kind in check.kinds:
        return f"a {name} that would not come back: {way_out}"
    if any(base in check.kinds for base in kind.__mro__[1:]) and kind is not bool:
        return f"{name}, a subclass, which would come back as its base: {way_out}"
    return f"{name}: {way_out}"


class _Nothing:
    """Stands for what is not there."""


_Nothing.__qualname__ = "nothing"
NOTHING = _Nothing()

# --- what more than the type decides ---


def is_text(value: str) -> bool:
    """Tell whether a str has bytes in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Tell whether a float comes back: a finite one, or an int that is a float's number."""
    kind = kind_of(value)
    if kind is float:
        return isfinite(value)
    try:
        return bool(kind is int and float(value) == value)
    except OverflowError:
        return False


def is_exact_float(value: Any) -> bool:
    """Tell whether a float comes back where an int would be taken for something else."""
    return kind_of(value) is float and isfinite(value)


def carries_zone(value: Any) -> bool:
    """Tell whether the zone of a datetime or time comes back: as an offset in whole minutes."""
    if value.tzinfo is None:
        return True
    offset = value.utcoffset()
    return offset is not None and not offset.seconds % 60 and not offset.microseconds


def is_moment(value: Any) -> bool:
    """Tell whether a datetime comes back."""
    return kind_of(value) is _DATETIME and (value.tzinfo is None or value.tzinfo is _UTC or carries_zone(value))


def is_raw_json(value: Any) -> bool:
    """Tell whether a msgspec.Raw holds JSON."""
    try:
        return kind_of(value) is msgspec.Raw and bool(msgspec.json.decode(value, type=msgspec.Raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def is_flat_memory(value: Any) -> bool:
    """Tell whether a memoryview is one of bytes."""
    return kind_of(value) is memoryview and value.format == "B" and value.ndim == 1 and value.contiguous


# --- values of undeclared type: they come back as JSON's own types, so they have to be of them ---

_DECLARE = "declare its type (a dataclass, TypedDict, datetime, …), or pass what JSON has"
_PLAIN = frozenset((str, int, bool, type(None)))
_STR = frozenset((str,))


def _is_json(value: Any) -> bool:
    kind = kind_of(value)
    if kind in _PLAIN:
        return True
    if kind is list:
        return _PLAIN.issuperset(map(type, value)) or all(map(_is_json, value))
    if kind is dict:
        return _STR.issuperset(map(type, value)) and all(map(_is_json, value.values()))
    return kind is float and isfinite(value)


def _json_parts(value: Any) -> Iterator[Part]:
    if kind_of(value) is list:
        yield from ((f"[{i}]", part, ANY) for i, part in enumerate(value))
    elif kind_of(value) is dict:
        yield from entries(value, ANY_KEY, ANY)


def entries(value: dict[Any, Any], keys: Check, values: Check) -> Iterator[Part]:
    """The parts of a dict."""
    for key, part in value.items():
        yield " (a key)", key, keys
        yield f".{key}" if kind_of(key) is str and key.isidentifier() else f"[{key!r}]", part, values


ANY = Check("a value of JSON's own types (str, int, float, bool, None, list, dict)", ok=_is_json, way_out=_DECLARE)
ANY.parts = _json_parts
ANY_KEY = Check("str as a key", (str,), way_out="declare the keys' type (dict[int, …]), or pass text")
