"""From a type to its check: the tree of `Check`s that its values have to pass, built once.

A type whose values would not come back is refused here, where it is declared, with the path to what is wrong in it. For
a class the check is one expression, compiled as `dataclasses` compiles its methods: it is asked at every `ctx.set`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn, cast, get_origin

import msgspec
from msgspec import inspect as shape

from odradek import _check
from odradek._check import ANY, ANY_KEY, NOTHING, Check, Ok, compiled, is_number, kind_of
from odradek._unions import LIMITS, refuse_unions

Build = Callable[["_Builder", Check, Any, str], None]

_LIMITS = (*LIMITS, "pattern", "tz")
_FLOAT = frozenset((float,))


def checks_of(hint: Any, name: str) -> tuple[Check, bool]:
    """Build the check of a type; tell whether its values must be read back besides (it has code or limits of its own).

    Raises TypeError for a type whose values would not come back; NameError when a name in it is not defined yet.
    """
    try:
        refuse_unions(hint, name)
        node = shape.type_info(hint)
        msgspec.json.Decoder(hint)
        builder = _Builder(name)
        return builder.check(node, "$"), builder.reads_back
    except RecursionError as error:
        raise TypeError(f"no serde for {name}: it holds itself other than through a class") from error
    except KeyError as error:
        raise TypeError(f"no serde for {name}: field {error} has no annotation") from error
    except TypeError as error:
        text = str(error)
        raise TypeError(text if text.startswith("no serde for") else f"no serde for {name}: {text}") from error


class _Builder:
    """Builds the checks of one type. A recursive type comes back to the check that is being built."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reads_back = False
        self._made: dict[int, Check] = {}

    def refuse(self, path: str, what: str) -> NoReturn:
        raise TypeError(f"no serde for {self.name}: at {path}: {what}")

    def check(self, node: Any, path: str) -> Check:
        """Give the check of a node of msgspec's tree; `path` leads to it."""
        if isinstance(node, shape.Metadata):
            return self.check(node.type, path)
        known = self._made.get(id(node))
        if known is None:
            self.reads_back |= any(getattr(node, limit, None) is not None for limit in _LIMITS)
            known = self._made[id(node)] = Check("")
            build = _BUILD.get(kind_of(node))
            if build is None:
                self.refuse(path, f"{type(node).__name__} has no JSON")
            build(self, known, node, path)
        return known


def _become(check: Check, other: Check) -> None:
    """Make the check that is being built, which others may hold already, what `other` is."""
    for name in Check.__slots__:
        setattr(check, name, getattr(other, name))


def _kind(kind: type, ok: Ok | None = None, way_out: str = "", also: tuple[type, ...] = ()) -> Build:
    name = "None" if kind is type(None) else kind.__qualname__
    return lambda _builder, check, _node, _path: _become(check, Check(name, (kind, *also), ok, way_out))


def _any(_builder: _Builder, check: Check, _node: Any, _path: str) -> None:
    _become(check, ANY)


def _enum(_builder: _Builder, check: Check, node: shape.EnumType, _path: str) -> None:
    _become(check, Check(node.cls.__qualname__, (node.cls,)))


def _literal(_builder: _Builder, check: Check, node: shape.LiteralType, _path: str) -> None:
    values: set[tuple[type, Any]] = {(kind_of(value), value) for value in node.values}
    kinds = frozenset(kind for kind, _ in values)
    expected = f"one of {', '.join(sorted(map(repr, node.values)))}"
    _become(check, Check(expected, kinds, lambda value: kind_of(value) in kinds and (kind_of(value), value) in values, "pass one"))


def _custom(builder: _Builder, check: Check, node: shape.CustomType, path: str) -> None:
    cls: Any = node.cls
    if cls is object:
        _become(check, ANY)
        return
    name = getattr(cls, "__qualname__", str(cls))
    if hasattr(cls, "__pydantic_validator__"):
        builder.refuse(
            path,
            f"{name} is a pydantic model inside a class that pydantic does not take; make the outer class a pydantic "
            "model or a dataclass, or the inner one a dataclass or msgspec.Struct",
        )
    raise TypeError(
        f"no serde for {name} (in {builder.name}, at {path}): use a dataclass, TypedDict, msgspec.Struct, "
        "attrs or pydantic class, a builtin type, or bytes that you encode yourself"
    )


# --- unions ---


def _union(builder: _Builder, check: Check, node: shape.UnionType, path: str) -> None:
    members = [builder.check(member, path) for member in node.types]
    if any(member.expected == ANY.expected for member in members):
        _become(check, ANY)
        return
    if any(isinstance(one, shape.LiteralType | shape.EnumType) for one in node.types):
        # Beside Literal[1] or an enum of ints, an int is not taken for a float.
        members = [_EXACT_FLOAT if member.ok is is_number else member for member in members]
    expected = " | ".join(member.expected for member in members)
    kinds: frozenset[type] = frozenset[type]().union(*(member.kinds for member in members))
    if all(member.only_kinds for member in members):
        _become(check, Check(expected, kinds))
        return
    by_kind = {kind: _either([member for member in members if kind in member.kinds]) for kind in kinds}

    def ok(value: Any) -> bool:
        member = by_kind.get(kind_of(value))
        return member is not None and member.ok(value)

    _become(check, Check(expected, kinds, ok))
    check.parts = lambda value: [("", value, by_kind[kind_of(value)])] if kind_of(value) in by_kind else ()


_EXACT_FLOAT = Check("float", (float,), _check.is_exact_float)


def _either(members: list[Check]) -> Check:
    if len(members) == 1:
        return members[0]
    kinds = frozenset[type]().union(*(member.kinds for member in members))
    return Check(" | ".join(member.expected for member in members), kinds, lambda value: any(one.ok(value) for one in members))


# --- containers ---


def _container(kind: type, inner: Check) -> Ok:
    """Exactly this container, every item ok: without a call for each where the type is all there is to an item."""
    kinds = inner.kinds
    if inner.only_kinds:
        return lambda value: kind_of(value) is kind and kinds.issuperset(map(type, value))
    if inner.ok is is_number:
        return lambda value: (
            kind_of(value) is kind
            and ((_FLOAT.issuperset(map(type, value)) and all(map(isfinite, value))) or all(map(is_number, value)))
        )
    return lambda value: kind_of(value) is kind and all(map(inner.ok, value))


def _mapping(keys: Check, inner: Check) -> Ok:
    """Exactly a dict, every key and value ok."""
    kinds, value_kinds = keys.kinds, inner.kinds
    if not keys.only_kinds:
        return lambda value: kind_of(value) is dict and all(map(keys.ok, value)) and all(map(inner.ok, value.values()))
    if not inner.only_kinds:
        return lambda value: kind_of(value) is dict and kinds.issuperset(map(type, value)) and all(map(inner.ok, value.values()))
    return lambda value: (
        kind_of(value) is dict and kinds.issuperset(map(type, value)) and value_kinds.issuperset(map(type, value.values()))
    )


def _collection(kind: type) -> Build:
    def build(builder: _Builder, check: Check, node: Any, path: str) -> None:
        inner = builder.check(node.item_type, f"{path}[...]")
        _become(check, Check(kind.__qualname__, (kind,), _container(kind, inner)))
        check.parts = lambda value: [(f"[{i}]", part, inner) for i, part in enumerate(value)] if kind_of(value) is kind else ()

    return build


def _tuple(builder: _Builder, check: Check, node: shape.TupleType, path: str) -> None:
    inner = [builder.check(item, f"{path}[{i}]") for i, item in enumerate(node.item_types)]
    size = len(inner)

    def ok(value: Any) -> bool:
        return kind_of(value) is tuple and len(value) == size and all(c.ok(part) for c, part in zip(inner, value, strict=True))

    _become(check, Check(f"tuple of {size}", (tuple,), ok))
    check.parts = lambda value: (
        [(f"[{i}]", part, one) for i, (one, part) in enumerate(zip(inner, value, strict=False))] if kind_of(value) is tuple else ()
    )


_KEYS = (
    shape.AnyType, shape.StrType, shape.IntType, shape.FloatType, shape.DecimalType, shape.BytesType, shape.UUIDType,
    shape.DateType, shape.DateTimeType, shape.TimeType, shape.TimeDeltaType, shape.EnumType, shape.LiteralType,
)  # fmt: skip


def _dict(builder: _Builder, check: Check, node: shape.DictType, path: str) -> None:
    keys = _key(builder, node.key_type, path)
    inner = builder.check(node.value_type, f"{path}[...]")
    _become(check, Check("dict", (dict,), _mapping(keys, inner)))
    check.parts = lambda value: _check.entries(value, keys, inner) if kind_of(value) is dict else ()


def _key(builder: _Builder, node: Any, path: str) -> Check:
    """The keys of a JSON object are text: what text does not tell apart is no key."""
    while isinstance(node, shape.Metadata):
        node = node.type
    kinds = {kind_of(value) for value in node.values} if isinstance(node, shape.LiteralType) else {str}
    if not isinstance(node, _KEYS) or kinds not in ({str}, {int}):
        builder.refuse(path, "its keys become text, from which they do not come back; declare keys of one type: str, int, date, …")
    return ANY_KEY if isinstance(node, shape.AnyType) else builder.check(node, f"{path} (a key)")


# --- classes ---


def _struct(builder: _Builder, check: Check, node: shape.StructType, path: str) -> None:
    cls: Any = get_origin(node.cls) or node.cls
    builder.reads_back |= hasattr(cls, "__post_init__")
    _object(builder, check, cls, node.fields, path)


def _dataclass(builder: _Builder, check: Check, node: shape.DataclassType, path: str) -> None:
    cls: Any = get_origin(node.cls) or node.cls
    if hasattr(cls, "__dataclass_fields__"):
        builder.reads_back |= hasattr(cls, "__post_init__")
    else:
        hooks = ("__attrs_pre_init__", "__attrs_post_init__")
        builder.reads_back |= any(hasattr(cls, hook) for hook in hooks)
        builder.reads_back |= any(field.converter or field.validator for field in cls.__attrs_attrs__)
        if private := [field.name for field in cls.__attrs_attrs__ if field.name.startswith("_")]:
            builder.refuse(
                f"{path}.{private[0]}",
                f"private fields of an attrs class ({cls.__qualname__}) are not encoded; name it without the underscore, "
                "or make the class a dataclass or msgspec.Struct",
            )
    _object(builder, check, cls, node.fields, path, _completed(cls, node.fields))


def _completed(cls: type, fields: Iterable[shape.Field]) -> tuple[str, dict[str, Any]]:
    """What gives a dataclass its defaults, before it is encoded: those of one that was read stand in its class alone.

    msgspec leaves them there, and does not write them again: others who read what is written would miss a field.
    """
    defaults = {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}
    if not defaults or not hasattr(cls, "__dataclass_fields__") or not cls.__dictoffset__:
        return "", {}

    def complete(value: Any) -> bool:
        for name, default in defaults.items():
            value.__dict__.setdefault(name, default)
        return True

    there = " and ".join(f"{name!r} in v.__dict__" for name in defaults)
    return f" and ({there} or complete(v))", {"complete": complete}


def _named_tuple(builder: _Builder, check: Check, node: shape.NamedTupleType, path: str) -> None:
    _object(builder, check, cast("Any", get_origin(node.cls) or node.cls), node.fields, path)


def _object(
    builder: _Builder,
    check: Check,
    cls: type,
    fields: Iterable[shape.Field],
    path: str,
    first: tuple[str, dict[str, Any]] = ("", {}),
) -> None:
    """A class: exactly this one, `first`, and each field ok."""
    check.expected, check.kinds = cls.__qualname__, frozenset((cls,))  # for unions that lead back here
    check.way_out = "pass one, or declare the type that the value has (for several: a union of tagged msgspec.Structs)"
    inner = {field.name: _or_unset(builder.check(field.type, f"{path}.{field.name}"), field) for field in fields}
    tests = [("", f"getattr(v, {name!r})" if _is_odd(name) else f"v.{name}", one) for name, one in inner.items()]
    _compile(check, f"type(v) is cls{first[0]}", tests, {"cls": cls, **first[1]})
    check.parts = lambda value: (
        [(f".{name}", getattr(value, name, NOTHING), one) for name, one in inner.items()] if kind_of(value) is cls else ()
    )


def _or_unset(check: Check, field: shape.Field) -> Check:
    """A field that may be msgspec.UNSET: msgspec says so by no default, and not required."""
    if field.required or field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT:
        return check
    return Check(check.expected, check.kinds | {msgspec.UnsetType}, lambda value: value is msgspec.UNSET or check.ok(value))


def _typed_dict(builder: _Builder, check: Check, node: shape.TypedDictType, path: str) -> None:
    name = getattr(get_origin(node.cls) or node.cls, "__qualname__", "TypedDict")
    check.expected, check.kinds = name, frozenset((dict,))
    inner = {field.name: builder.check(field.type, f"{path}.{field.name}") for field in node.fields}
    required = frozenset(field.name for field in node.fields if field.required)
    tests = [("" if key in required else f"{key!r} not in v", f"v[{key!r}]", one) for key, one in inner.items()]
    names = {"names": frozenset(inner), "required": required}
    _compile(check, "type(v) is dict and required <= v.keys() <= names", tests, names)
    undeclared = Check(f"no such key in {name}", way_out="decoding drops it; declare it, or leave it out")

    def parts(value: Any) -> Iterable[_check.Part]:
        if kind_of(value) is not dict:
            return ()
        found: dict[Any, Any] = value
        declared = [(f".{key}", found.get(key, NOTHING), one) for key, one in inner.items() if key in found or key in required]
        return declared + [(f".{key}", part, undeclared) for key, part in found.items() if key not in inner]

    check.parts = parts


def _is_odd(name: str) -> bool:
    """It cannot be written after a dot."""
    try:
        compile(f"v.{name}", "", "eval")
    except SyntaxError:
        return True
    return not name.isidentifier()


def _compile(made: Check, first: str, tests: Iterable[tuple[str, str, Check]], names: dict[str, Any]) -> None:
    """Let `first and test and test …` be the check, each test of one place: (what excuses it, the place, its check)."""
    terms = [first]
    names["inf"] = float("inf")
    for number, (excuse, place, check) in enumerate(tests):
        name = f"c{number}"
        if check.only_kinds:
            names[name] = next(iter(check.kinds)) if len(check.kinds) == 1 else check.kinds
            term = f"type({place}) {'is' if len(check.kinds) == 1 else 'in'} {name}"
        else:
            names[name] = check  # not its `ok`: the check may be one that is still being built
            term = f"{name}.ok({place})"
            if check.ok is is_number:
                term = f"(type({place}) is float and -inf < {place} < inf or {term})"
        terms.append(f"({excuse} or {term})" if excuse else term)
    made.source = " and ".join(terms), names
    made.ok = compiled(*made.source)


_BUILD: dict[type, Build] = {
    shape.AnyType: _any,
    shape.NoneType: _kind(type(None)),
    shape.BoolType: _kind(bool),
    shape.IntType: _kind(int),
    shape.FloatType: _kind(float, is_number, also=(int,)),
    shape.StrType: _kind(str),
    shape.BytesType: _kind(bytes),
    shape.ByteArrayType: _kind(bytearray),
    shape.MemoryViewType: _kind(memoryview, _check.is_flat_memory, "pass one of contiguous bytes"),
    shape.DateTimeType: _kind(dt.datetime, _check.is_moment),
    shape.TimeType: _kind(dt.time, lambda v: kind_of(v) is dt.time and _check.carries_zone(v)),
    shape.DateType: _kind(dt.date),
    shape.TimeDeltaType: _kind(dt.timedelta),
    shape.UUIDType: _kind(uuid.UUID),
    shape.DecimalType: _kind(Decimal),
    shape.RawType: _kind(msgspec.Raw, _check.is_raw_json, "pass JSON"),
    shape.EnumType: _enum,
    shape.LiteralType: _literal,
    shape.CustomType: _custom,
    shape.UnionType: _union,
    shape.ListType: _collection(list),
    shape.SetType: _collection(set),
    shape.FrozenSetType: _collection(frozenset),
    shape.VarTupleType: _collection(tuple),
    shape.TupleType: _tuple,
    shape.DictType: _dict,
    shape.StructType: _struct,
    shape.DataclassType: _dataclass,
    shape.NamedTupleType: _named_tuple,
    shape.TypedDictType: _typed_dict,
}
