"""The guard before an encoder: a value is checked, encoded, read back where its type asks for that, or refused.

This is where the rule is kept that nothing is written which would not be read as it was. On the hot path it costs one
call and one comparison of types.
"""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from odradek._bad_input import BadInput, explain
from odradek._check import Check, Mismatch, entries, kind_of, mismatch, not_text
from odradek._checks import checks_of
from odradek._errors import RefusedValue
from odradek._readback import difference

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
Quick = Callable[[Any], bytes | None]


def never(_: Any) -> None:
    """Give no bytes: every value takes the long way."""


class Guard:
    """Makes encoders that refuse what would not come back: `guard("state 'spent'")(value)` gives bytes."""

    __slots__ = ("_check", "_decode", "_dump")

    def __init__(self, check: Check, dump: Encode, decode: Decode | None = None) -> None:
        """`decode` is given when the bytes have to be read back to know."""
        self._check = check
        self._dump = dump
        self._decode = decode

    def __call__(self, what: str) -> Encode:
        """Make an encoder; `what` names in its refusals what the value is for."""
        if self._decode is not None:
            return self._reading_back(what, self._decode)
        return self._of_one_kind(what) if self._check.only_kinds and len(self._check.kinds) == 1 else self._checking(what)

    @property
    def check(self) -> Check:
        """What it asks of a value before it is encoded."""
        return self._check

    @property
    def bare(self) -> tuple[type | None, Encode]:
        """The type whose very values need no check at all, None if there is none, and what encodes them.

        For a hot loop: where `bare` raises, the guarded encoder says why.
        """
        kinds = self._check.kinds
        single = self._decode is None and self._check.only_kinds and len(kinds) == 1 and type(None) not in kinds
        return (next(iter(kinds)) if single else None), self._dump

    @property
    def quick(self) -> Quick:
        """What encodes a value that needs no more than that, and gives None for any other; as `bare`, for a hot loop."""
        return self._check.before(self._dump) if self._decode is None else never

    def accepts(self, value: Any) -> bool:
        """Tell whether the value would come back."""
        try:
            return self._check.ok(value) and (self._decode is None or self._returned(value, self._decode)[1] is None)
        except Exception:  # noqa: BLE001  (the type's own code may raise anything)
            return False

    def _returned(self, value: Any, decode: Decode) -> tuple[bytes, Mismatch | None]:
        data = self._dump(value)
        return data, difference(value, decode(data))

    def _of_one_kind(self, what: str) -> Encode:
        (kind,), dump = self._check.kinds, self._dump

        def encode(value: Any) -> bytes:
            if kind_of(value) is kind:
                try:
                    return dump(value)
                except Exception as error:
                    raise self._not_encoded(what, value, error) from error
            raise self._refused(what, value)

        return encode

    def _checking(self, what: str) -> Encode:
        ok, dump = self._check.ok, self._dump

        def encode(value: Any) -> bytes:
            try:
                if ok(value):
                    return dump(value)
            except Exception as error:
                raise self._not_encoded(what, value, error) from error
            raise self._refused(what, value)

        return encode

    def _reading_back(self, what: str, decode: Decode) -> Encode:
        ok = self._check.ok

        def encode(value: Any) -> bytes:
            try:
                data, found = self._returned(value, decode) if ok(value) else (b"", mismatch(self._check, value))
            except Exception as error:
                raise self._not_encoded(what, value, error) from error
            if found is not None:
                raise RefusedValue(what, found.field, found.reason)
            return data

        return encode

    def _refused(self, what: str, value: Any) -> RefusedValue:
        found = mismatch(self._check, value)
        return RefusedValue(what, found.field, found.reason)

    def _not_encoded(self, what: str, value: Any, error: Exception) -> RefusedValue:
        found = not_text(self._check, value) if isinstance(error, UnicodeEncodeError) else None
        if found is None:
            found = _unread(error)
        return RefusedValue(what, found.field, found.reason)


def _unread(error: Exception) -> Mismatch:
    try:
        bad = explain(error, "its type")
    except Exception:  # noqa: BLE001  (a user's `__str__`)
        bad = BadInput("$", type(error).__name__)
    return Mismatch(bad.field, f"it cannot be written, or what is written is not read again: {bad.message}")


# --- values of undeclared type, to be read under a type that is not known here ---

_SINGLE = (
    str, int, bool, type(None), float, Decimal, uuid.UUID, dt.datetime, dt.date, dt.time, dt.timedelta, bytes, bytearray,
)  # fmt: skip
_MANY = (list, tuple, set, frozenset)
_NO_KEYS = (bool, type(None), bytearray)


def own_check(guard_of: Callable[[Any], Guard]) -> Check:
    """Give the check of a value by the type that it has: each part is what the guard of its class takes."""
    own = Check("a value that has a serde", way_out="pass a dataclass, Struct, model or builtin value, or bytes of your own")
    singles = {kind: checks_of(kind, kind.__qualname__)[0] for kind in _SINGLE}
    keys = Check("str, a number, a date or an enum as a key", way_out="pass one, or bytes of your own")

    def ok(value: Any) -> bool:
        kind = kind_of(value)
        if single := singles.get(kind):
            return single.ok(value)
        if kind in _MANY:
            return all(map(ok, value))
        if kind is dict:
            return all(map(keys.ok, value)) and all(map(ok, value.values()))
        guard = guard_or_none(kind)
        return guard is not None and guard.accepts(value)

    def key_ok(key: Any) -> bool:
        return isinstance(key, enum.Enum) or (
            kind_of(key) in singles and kind_of(key) not in _NO_KEYS and singles[kind_of(key)].ok(key)
        )

    def guard_or_none(kind: type) -> Guard | None:
        try:
            return guard_of(kind)
        except (TypeError, NameError):
            return None

    def parts(value: Any) -> Any:
        kind = kind_of(value)
        if kind in _MANY:
            return [(f"[{number}]", part, own) for number, part in enumerate(value)]
        if kind is dict:
            return entries(value, keys, own)
        guard = None if kind in singles else guard_or_none(kind)
        return [("", value, guard.check)] if guard else ()

    own.ok, own.parts, keys.ok = ok, parts, key_ok
    return own
