"""Reading back: is a decoded value the one that was encoded? For types with code or limits of their own, and pydantic's.

What such a type makes of its bytes cannot be known from its shape, so a value of it is decoded again before its bytes
count. `difference` compares by type and field, since `==` takes True for 1, and some classes have none of their own.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from odradek._check import NOTHING, Mismatch, kind_of

if TYPE_CHECKING:
    from collections.abc import Hashable

_Found = list[str] | None
"""None, or what is wrong and then the steps that lead there, the last one first."""

_ATOMS = frozenset((int, str, bool, float, bytes, type(None), dt.date, dt.timedelta))
_EXTRAS = ("__pydantic_extra__", "__pydantic_private__")


def difference(sent: Any, back: Any) -> Mismatch | None:
    """Give the first place where `back` is not what was `sent`."""
    found = _unlike(sent, back)
    return None if found is None else Mismatch("$" + "".join(reversed(found[1:])), found[0])


def _unlike(sent: Any, back: Any) -> _Found:
    kind: Any = kind_of(sent)
    if kind is not type(back):
        return [f"this {_name(sent)} would come back as {_name(back)}: pass that, or declare the type it has"]
    if kind in _ATOMS:
        return None if sent == back else _changed(kind)
    if kind in (list, tuple):
        return _unlike_items(sent, back)
    if kind is dict:
        return _unlike_entries(sent, back)
    names, is_model = _field_names(cast("Hashable", kind))
    for name in names:
        found = _unlike(getattr(sent, name, NOTHING), getattr(back, name, NOTHING))
        if found is not None:
            return [*found, f".{name}"]
    if is_model:
        extras = (_unlike_entries(getattr(sent, extra, None) or {}, getattr(back, extra, None) or {}) for extra in _EXTRAS)
        return next((found for found in extras if found is not None), None)
    return None if names or _equal(sent, back, kind) else _changed(kind)


def _changed(kind: type) -> list[str]:
    why = "its type's own code, its limits or JSON do not bring it back; pass one that they do, or change the type"
    return [f"this {kind.__qualname__} would come back as another one: {why}"]


def _name(value: Any) -> str:
    return "None" if value is None else type(value).__qualname__


def _unlike_items(sent: Any, back: Any) -> _Found:
    if len(sent) != len(back):
        return [f"these {len(sent)} items would come back as {len(back)}"]
    for number, part in enumerate(sent):
        found = _unlike(part, back[number])
        if found is not None:
            return [*found, f"[{number}]"]
    return None


def _unlike_entries(sent: dict[Any, Any], back: dict[Any, Any]) -> _Found:
    if not sent and not back:
        return None
    keys = {key: key for key in back}
    for key, value in sent.items():
        other = back[key] if key in keys and type(keys[key]) is type(key) else NOTHING
        found = _unlike(value, other)
        if found is not None:
            return [*found, f".{key}"]
    return None if len(sent) == len(back) else ["more keys would come back than there are"]


@lru_cache(maxsize=4096)
def _field_names(kind: Any) -> tuple[tuple[str, ...], bool]:
    """The fields by which two of a class are compared; whether it is a pydantic class, which may hold more."""
    if hasattr(kind, "__pydantic_fields__"):
        return tuple(kind.__pydantic_fields__), True
    if hasattr(kind, "__struct_fields__"):
        return tuple(kind.__struct_fields__), False
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__), False
    if hasattr(kind, "__dataclass_fields__"):
        fields = kind.__dataclass_fields__.items()
        return tuple(name for name, field in fields if field._field_type.name == "_FIELD"), False
    return tuple(getattr(kind, "_fields", ()) if tuple in kind.__mro__ else ()), False


def _equal(sent: Any, back: Any, kind: Any) -> bool:
    if kind.__eq__ is object.__eq__:
        return True  # a lock, a client: made anew with its object, nothing to compare
    if sent == back or repr(sent) == repr(back) == "Decimal('NaN')":
        return True
    if kind is dt.datetime and sent.tzinfo is not None and back.tzinfo is not None:
        return not sent - back  # in the hour that a zone repeats, == is False for what is the same moment
    return False
