"""Types that hold a pydantic model: pydantic encodes and decodes them, in the way that brings back what went in.

Chosen once for a type: by names or by aliases, with computed fields or without. What no way brings back (secrets,
excluded fields, an alias for one direction alone) is refused where the type is declared, with the path to the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic.fields import FieldInfo

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


def holds_pydantic(hint: Any) -> bool:
    """Tell whether pydantic has to do it: a model or pydantic dataclass occurs in the type, or in a field of it."""
    return any(hasattr(part, "__pydantic_validator__") for _, part, _ in parts_of(hint))


def pydantic_codec(hint: Any, name: str) -> tuple[Encode, Decode]:
    """Give encoder and decoder.

    Raises TypeError for a type that does not bring back what goes in; NameError when a name in it is not defined yet.
    """
    from pydantic import TypeAdapter  # only where the user's own types have brought it
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    way = _Way(name)
    for path, part, inside in parts_of(hint):
        way.see(path, part, inside)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        if not adapter.pydantic_complete and not adapter.rebuild(raise_errors=False):
            raise NameError(f"{name} names a type that is not defined (yet)")
    except PydanticUndefinedAnnotation:
        raise
    except PydanticUserError as error:
        raise TypeError(
            f"no serde for {name}: {str(error).splitlines()[0]} (a pydantic model takes pydantic models, dataclasses, "
            "TypedDicts and builtin types, not msgspec.Structs or attrs classes)"
        ) from error
    return partial(adapter.dump_json, warnings=False, **way.options()), adapter.validate_json


@dataclass
class _Way:
    """How the models seen so far can be written, if at all."""

    name: str
    as_configured: bool = True
    by_alias: bool = True
    by_name: bool = True
    one_way: str = ""
    """A field that its alias brings to one side only."""
    round_trip: bool = False
    seen: set[Any] = field(default_factory=set[Any])

    def options(self) -> dict[str, Any]:
        """Give what `dump_json` is told."""
        chosen: dict[str, Any] = {"round_trip": True} if self.round_trip else {}
        if not self.as_configured:
            if not (self.by_alias or self.by_name):
                self._refuse(self.one_way, "is written under one name and read under another; give it one alias, or none")
            chosen["by_alias"] = self.by_alias
        return chosen

    def see(self, path: str, part: Any, serialized: bool) -> None:
        """Look at one type in the tree; `serialized`: code of the user's own writes it."""
        if not isinstance(part, type):
            return
        if not serialized and any(base.__module__ == "pydantic.types" and base.__name__ in _SECRETS for base in part.__mro__):
            self._refuse(
                path,
                f"{part.__name__} is written as asterisks; declare str, or give the field a serializer that writes the "
                "secret (it is stored and sent as text then)",
            )
        if hasattr(part, "__pydantic_fields__") and part not in self.seen:
            self.seen.add(part)
            model = cast("Any", part)
            config: Any = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
            if model.__pydantic_decorators__.computed_fields and config.get("extra") in ("forbid", "allow"):
                self.round_trip = True  # else they would be read back as fields
            for name, info in model.__pydantic_fields__.items():
                self._see_field(f"{path}.{name}", name, info, config)

    def _see_field(self, path: str, name: str, info: FieldInfo, config: Any) -> None:
        if info.exclude:
            self._refuse(path, "exclude=True leaves it out, so it would be lost; drop exclude=, or make it a private attribute")
        self.round_trip |= any("Json" in (getattr(m, "__name__", ""), type(m).__name__) for m in info.metadata)
        read = _names_read(name, info, config)
        alias = info.serialization_alias or name
        self.as_configured &= (alias if config.get("serialize_by_alias") else name) in read
        self.by_name &= name in read
        self.by_alias &= alias in read
        if alias not in read and not self.one_way:
            self.one_way = path

    def _refuse(self, path: str, what: str) -> NoReturn:
        raise TypeError(f"no serde for {self.name}: at {path}: {what}")


_SECRETS = ("SecretStr", "SecretBytes", "Secret")


def _names_read(name: str, info: FieldInfo, config: Any) -> set[str]:
    """The keys under which a field is read."""
    alias = info.validation_alias
    if alias is None or config.get("validate_by_alias") is False:
        return {name}
    read = {alias} if isinstance(alias, str) else {one for one in getattr(alias, "choices", ()) if isinstance(one, str)}
    if config.get("populate_by_name") or config.get("validate_by_name"):
        read.add(name)
    return read


def parts_of(hint: Any) -> Iterator[tuple[str, Any, bool]]:
    """Walk a type: every type in it with its path, and whether code of the user's own serializes it."""
    return _parts(hint, "$", set())


def _parts(hint: Any, path: str, seen: set[type], serialized: bool = False) -> Iterator[tuple[str, Any, bool]]:
    while hasattr(hint, "__supertype__"):  # a NewType
        hint = hint.__supertype__
    if get_origin(hint) is Literal:
        return
    if get_origin(hint) is Annotated:
        hint, *metadata = get_args(hint)
        serialized |= _serialized(metadata)
        yield from _parts(hint, path, seen, serialized)
        return
    yield path, hint, serialized
    for arg in get_args(hint):
        yield from _parts(arg, path, seen, serialized)
    cls = get_origin(hint) or hint
    if isinstance(cls, type) and cls not in seen and any("__annotations__" in vars(base) for base in cls.__mro__):
        seen.add(cls)
        yield from _fields(cls, path, seen, serialized)


def _fields(cls: Any, path: str, seen: set[type], serialized: bool) -> Iterator[tuple[str, Any, bool]]:
    infos: dict[str, FieldInfo] | None = getattr(cls, "__pydantic_fields__", None)
    if infos is None:
        for name, hint in get_type_hints(cls, include_extras=True).items():
            yield from _parts(hint, f"{path}.{name}", seen, serialized)
        return
    decorators = cls.__pydantic_decorators__
    own = {name for one in decorators.field_serializers.values() for name in one.info.fields}
    for name, info in infos.items():
        written = serialized or bool(decorators.model_serializers) or name in own or "*" in own or _serialized(info.metadata)
        yield from _parts(info.annotation, f"{path}.{name}", seen, written)


def _serialized(metadata: list[Any]) -> bool:
    return any(type(one).__name__ in ("PlainSerializer", "WrapSerializer") for one in metadata)
