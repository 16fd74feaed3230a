"""A row becomes the key and value of a record: types from the topic, or guessed per column, and said."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import msgspec.inspect

from odradek import Topic
from odradek._bad_input import BadInput, explain
from odradek._serde import topic_serde
from odradek_runtime.cli.errors import USAGE, CommandError, counted, near
from odradek_runtime.cli.source import BadRow, Row

SAMPLED_ROWS = 1_000
"""How many rows decide the type of a column that nothing else decides."""

FIELDS_NAMED = 8
"""How many of the fields that there are a hint names."""

JSON = "application/json"

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_LONG = range(-(2**63), 2**63)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BOOLS = {"true": True, "false": False}


class BadField(Exception):
    """A field cannot become part of the record: which one, and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def _to_int(cell: str) -> int:
    if not _INT.fullmatch(cell):
        raise ValueError
    return int(cell)


def _to_float(cell: str) -> float:
    if not _NUMBER.fullmatch(cell):
        raise ValueError
    return float(cell)


CASTS: dict[str, Callable[[str], Any]] = {
    "int": _to_int,
    "float": _to_float,
    "bool": lambda cell: _BOOLS[cell.lower()],
    "str": str,
}
"""The types that a user may give a CSV column: what he says is a number may be written in any way."""


def _same_int(cell: str) -> int:
    """Raises ValueError when the number, written out, is not the cell: leading zeros, a plus, more than 64 bits."""
    if not _INT.fullmatch(cell) or (number := int(cell)) not in _LONG or str(number) != cell:
        raise ValueError
    return number


def _same_number(cell: str) -> int | float:
    """Raises ValueError when the number, written out, is not the cell: `1.50`, `12E5`, more digits than a float has."""
    with suppress(ValueError):
        return _same_int(cell)
    if not _DECIMAL.fullmatch(cell) or repr(number := float(cell)) != cell:
        raise ValueError
    return number


GUESSES: dict[str, Callable[[str], Any]] = {**CASTS, "int": _same_int, "float": _same_number}
"""The types of a column whose type nobody has told, narrowest first: none of them changes a cell."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags of `publish` say about rows. `null` None: an empty cell is null, except in a column of text."""

    key: str | None = None
    null: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])


class Rows:
    """Turns rows into (key, value); made for one source, after a look at its first rows.

    `said` holds what a user should read before the data goes out: guessed types, columns left out. `key_missed` is for
    after it: JSON lines need not be alike, so that only their end tells whether `--key` names anything.
    """

    def __init__(self, rows: Iterator[Row | BadRow], topic: Topic[Any, Any] | None, options: Options) -> None:
        """Raises CommandError when `--key` or `--column` names what the file does not have."""
        head = list(itertools.islice(rows, SAMPLED_ROWS))
        self.rows: Iterator[Row | BadRow] = itertools.chain(head, rows)
        self.said: list[str] = []
        self._key_found = False
        self._fields: dict[str, None] = {}
        self._options = options
        self._topic = topic
        sample = [row for row in head if isinstance(row, Row)]
        columns = list(sample[0].fields) if sample and sample[0].raw is None else None
        self._nulls: dict[str, str | None] = {}
        self._casts: dict[str, Callable[[str], Any]] = {}
        self._kinds: dict[str, str] = {}
        if columns is None:
            self._value = self._json_value
            return
        for flag, names in (("--key", [options.key] if options.key else []), ("--column", list(options.columns))):
            for name in names:
                if name not in columns:
                    raise CommandError(f"{flag} {name}: the file has no such column", near(name, columns), code=USAGE)
        self._prepare_csv(columns, sample)

    def convert(self, row: Row) -> tuple[bytes | None, bytes | None]:
        """(key, value) of the record. Raises BadField."""
        try:
            return self._key(row), self._value(row)
        except UnicodeEncodeError:
            raise BadField(_not_utf8(row), "is not UTF-8") from None

    def key_missed(self) -> str:
        """What to say when `--key` names a field that no row so far had; else empty."""
        name = self._options.key
        if name is None or self._key_found:
            return ""
        there = list(self._fields)
        named = ", ".join(there[:FIELDS_NAMED]) + (" …" if len(there) > FIELDS_NAMED else "")
        return f"--key {name}: no row has this field; {'there are: ' + named if there else 'there is none'}"

    # --- key ----------------------------------------------------------------------------------------------------------

    def _key(self, row: Row) -> bytes | None:
        name = self._options.key
        fields = _object(row.fields)
        if name is None or fields is None:
            return None
        if not self._key_found:
            self._key_found = name in fields
            if len(self._fields) <= FIELDS_NAMED:
                self._fields.update(dict.fromkeys(fields))
        found = fields.get(name)
        if found is None or found == self._options.null or (found == "" and row.raw is None and self._options.null is None):
            return None
        if isinstance(found, str):
            return found.encode()
        if isinstance(found, (dict, list)):
            raise BadField(name, "is no key: it must be text or a number")
        return msgspec.json.encode(found)

    # --- JSON lines ---------------------------------------------------------------------------------------------------

    def _json_value(self, row: Row) -> bytes | None:
        fields, raw = row.fields, row.raw
        null, members = self._options.null, _object(row.fields)
        if null is not None and members is not None and null in members.values():
            fields = {name: None if cell == null else cell for name, cell in members.items()}
            raw = msgspec.json.encode(fields)
        if fields is None:
            return None
        assert raw is not None, "a JSON row keeps its text"
        return raw if self._topic is None else _checked(self._topic, fields, raw)

    # --- CSV ----------------------------------------------------------------------------------------------------------

    def _prepare_csv(self, columns: Sequence[str], sample: Sequence[Row]) -> None:
        fields = _fields_of(self._topic)
        if fields is None:
            self._value = self._guessed_value
            told = self._options.columns
            self._kinds = {name: told.get(name) or self._guess(name, sample) for name in columns}
            self._casts = {name: (CASTS if name in told else GUESSES)[kind] for name, kind in self._kinds.items()}
            source = (
                f"guessed from the first {counted(len(sample), 'row')}" if len(self._options.columns) < len(columns) else "as told"
            )
            self.said.append(f"types {source}: " + ", ".join(f"{name} {kind}" for name, kind in self._kinds.items()))
        else:
            self._value = self._typed_value
            left_out = [name for name in columns if name not in fields]
            if left_out:
                self.said.append(f"columns that the topic's type does not have are left out: {', '.join(left_out)}")
            self._nulls = {name: self._null_of(takes_text) for name, takes_text in fields.items() if name in columns}

    def _null_of(self, takes_text: bool) -> str | None:
        return self._options.null if self._options.null is not None else (None if takes_text else "")

    def _typed_value(self, row: Row) -> bytes:
        cells = row.fields
        fields = {name: None if (cell := cells[name]) == null else cell for name, null in self._nulls.items()}
        assert self._topic is not None, "typed values come from a topic's type"
        try:
            return msgspec.json.encode(msgspec.convert(fields, self._topic.value_type, strict=False))
        except msgspec.ValidationError as error:
            raise _bad_field(error, fields) from None

    def _guessed_value(self, row: Row) -> bytes:
        null = self._options.null
        fields: dict[str, Any] = {}
        for name, convert in self._casts.items():
            cell = row.fields[name]
            if cell == null or (null is None and cell == "" and convert is not str):
                fields[name] = None
                continue
            try:
                fields[name] = convert(cell)
            except (ValueError, KeyError):
                raise BadField(name, self._misfit(name, cell)) from None
        raw = msgspec.json.encode(fields)
        return raw if self._topic is None else _checked(self._topic, fields, raw)

    def _misfit(self, name: str, cell: str) -> str:
        kind = self._kinds[name]
        if name not in self._options.columns and kind in ("int", "float") and _NUMBER.fullmatch(cell):
            return (
                f"{cell!r} cannot be kept as it is written in a column of numbers (guessed from the first rows); "
                f"add --column {name}=str to keep the text, or --column {name}=float"
            )
        return f"{cell!r} is no {kind}; if it should be text, add --column {name}=str"

    def _guess(self, name: str, sample: Sequence[Row]) -> str:
        null = self._options.null if self._options.null is not None else ""
        cells = {row.fields[name] for row in sample} - {null}
        for kind, convert in GUESSES.items():
            try:
                for cell in cells:
                    convert(cell)
            except (ValueError, KeyError):
                continue
            return kind if cells else "str"
        return "str"


def _checked(topic: Topic[Any, Any], fields: Any, raw: bytes) -> bytes:
    """The bytes for the topic, after its type has accepted them. Raises BadField."""
    serde = topic_serde(topic.value_type)
    value = fields.encode() if isinstance(fields, str) and serde.content_type != JSON else raw
    try:
        serde.load(value)
    except BadInput as error:
        raise BadField(error.field.removeprefix("$").removeprefix("."), error.message) from None
    return value


def _bad_field(error: msgspec.ValidationError, fields: Mapping[str, Any]) -> BadField:
    found = explain(error, "")
    name = found.field.removeprefix("$").removeprefix(".")
    return BadField(name, f"{found.message} ({fields[name]!r})" if fields.get(name) is not None else found.message)


def _not_utf8(row: Row) -> str:
    for name, cell in (_object(row.fields) or {}).items():
        try:
            msgspec.json.encode(cell)
        except UnicodeEncodeError:
            return name
    return ""


def _object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _fields_of(topic: Topic[Any, Any] | None) -> dict[str, bool] | None:
    """Field name -> whether it takes text, when the topic's type is one with named fields; else None."""
    if topic is None:
        return None
    try:
        tree = msgspec.inspect.type_info(topic.value_type)
    except TypeError:
        return None
    if isinstance(tree, msgspec.inspect.UnionType):
        tree = next((part for part in tree.types if not isinstance(part, msgspec.inspect.NoneType)), tree)
    if not isinstance(
        tree,
        (
            msgspec.inspect.StructType,
            msgspec.inspect.DataclassType,
            msgspec.inspect.TypedDictType,
            msgspec.inspect.NamedTupleType,
        ),
    ):
        return None
    return {one.encode_name: _takes_text(one.type) for one in tree.fields}


def _takes_text(tree: msgspec.inspect.Type) -> bool:
    if isinstance(tree, msgspec.inspect.UnionType):
        return any(_takes_text(part) for part in tree.types)
    return isinstance(tree, (msgspec.inspect.StrType, msgspec.inspect.AnyType))
