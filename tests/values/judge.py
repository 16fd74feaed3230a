"""Whether two values are one; and a value with a foreign part in it."""

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any

import pydantic


def mutated(value: Any, foreign: Any, where: int) -> Any:
    """Put a foreign value somewhere into a value, if it has parts; else give the foreign one."""
    if isinstance(value, list) and value:
        at = where % len(value)
        return [*value[:at], mutated(value[at], foreign, where // 2), *value[at + 1 :]]
    if type(value) is tuple and value:
        return tuple(mutated(list(value), foreign, where))
    if type(value) is dict and value:
        key = list(value)[where % len(value)]
        return {**value, key: mutated(value[key], foreign, where // 2)}
    names = _fields(value)
    if names:
        name = names[where % len(names)]
        try:
            setattr(value, name, mutated(getattr(value, name), foreign, where // 2))
        except (AttributeError, TypeError, ValueError):
            return foreign
        return value
    return foreign


def _fields(value: Any) -> list[str]:
    cls: Any = type(value)
    if hasattr(cls, "__struct_fields__"):
        return list(cls.__struct_fields__)
    if isinstance(value, pydantic.BaseModel):
        return list(cls.model_fields)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return []


def same(sent: Any, back: Any) -> bool:
    """Whether one is the other: of the same type, part by part. An int given as a float is that float."""
    if type(sent) is not type(back):
        return type(sent) is int and type(back) is float and sent == back  # an int given as a float is that float
    if isinstance(sent, list | tuple) and not hasattr(sent, "_fields"):
        return len(sent) == len(back) and all(map(same, sent, back))
    if isinstance(sent, dict):
        pairs = zip(sorted(sent.items(), key=_place), sorted(back.items(), key=_place), strict=False)
        return len(sent) == len(back) and all(same(one, other) for one, other in pairs)
    if isinstance(sent, set | frozenset):
        return sorted(map(_told, sent)) == sorted(map(_told, back))
    if isinstance(sent, pydantic.BaseModel):
        return (
            all(same(getattr(sent, name), getattr(back, name)) for name in type(sent).model_fields)
            and same(sent.__pydantic_extra__, back.__pydantic_extra__)
            and same(sent.__pydantic_private__, back.__pydantic_private__)
        )
    cls: Any = type(sent)
    names = _fields(sent) or [f.name for f in getattr(cls, "__attrs_attrs__", ())] or list(getattr(cls, "_fields", ()))
    if names:
        return all(same(getattr(sent, name), getattr(back, name)) for name in names)
    if isinstance(sent, dt.datetime) and sent.tzinfo is not None:
        return back.tzinfo is not None and sent.replace(fold=sent.fold).timestamp() == back.timestamp()
    if isinstance(sent, Decimal) and sent.is_nan():
        return str(sent) == str(back)
    return bool(sent == back)


def _place(entry: tuple[Any, Any]) -> str:
    return _told(entry[0])


def _told(value: Any) -> str:
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return repr(value.astimezone(dt.UTC).replace(fold=0)) if 1 < value.year < 9999 else repr(value.utctimetuple())
    if isinstance(value, dt.datetime | dt.time):  # equal in Python too, whatever their fold and the name of their zone
        return repr((value.replace(tzinfo=None, fold=0), value.utcoffset()))
    if type(value) in (int, float) and abs(value) < 2**200:  # an int given as a float is that float
        return repr(float(value)) if float(value) == value else repr(value)
    return f"{type(value)}{value!r}"
