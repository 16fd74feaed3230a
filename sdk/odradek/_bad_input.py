"""Bytes that are not what a type asks for, and what a decoder's error says about them: which field, what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

DECODE_ERRORS: tuple[type[BaseException], ...] = (BaseException,)
"""What a decoder raises: ValueErrors as a rule, but a type's own constructor (`__post_init__`) may raise anything."""

_AT = re.compile(r"^(?P<message>.*) - at (?P<where>.*)$", re.DOTALL)
_PATH = re.compile(r"`(\$[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`$")


class BadInput(ValueError):
    """Bytes that are not what a type hint asks for: `field` is a JSON path ("$.amount"), `message` what is wrong."""

    field: str
    message: str
    hidden: BaseException | None
    """What a type or a function of the app raised, of which the message tells no more than its class: it is for the log."""

    def __init__(self, field: str, message: str, hidden: BaseException | None = None) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message
        self.hidden = hidden

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def explain(error: BaseException, expected: str) -> BadInput:
    """Say where decoding failed and what was expected there.

    A ValueError is a type's own word about a value, and is told; whatever else its code raises is not.
    """
    if isinstance(error, BadInput):
        return error
    errors: Any = getattr(error, "errors", None)
    if callable(errors) and type(error).__module__.partition(".")[0] in ("pydantic", "pydantic_core"):
        return _explain_pydantic(cast("Sequence[Mapping[str, Any]]", errors(include_url=False)))
    if isinstance(error, msgspec.ValidationError):
        return _explain_msgspec(str(error))
    if isinstance(error, UnicodeDecodeError):
        return BadInput("$", f"expected UTF-8 text, got byte {error.object[error.start]:#04x} at offset {error.start}")
    if not isinstance(error, ValueError):
        return BadInput("$", f"{expected} does not take this value: {type(error).__name__}", error)
    return BadInput("$", f"expected {expected} as JSON, but: {error}")


def _explain_msgspec(text: str) -> BadInput:
    path, message = "$", text
    if found := _AT.match(text):
        message, where = found.groups()
        at = _PATH.search(where)
        path = at[1] if at else path
        if not where.startswith("`$"):  # "`key` in `$.prices`": the key of a mapping is wrong, not its value
            message = f"{message} (the {where.partition(' ')[0].strip('`')})"
    if missing := _MISSING.match(message):
        return BadInput(f"{path}.{missing[1]}", "this required field is missing")
    return BadInput(path, message)


def _explain_pydantic(errors: Sequence[Mapping[str, Any]]) -> BadInput:
    found = [("$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in e["loc"]), str(e["msg"])) for e in errors]
    (path, message), others = found[0], found[1:4]
    more = "".join(f"; {where}: {what}" for where, what in others)
    return BadInput(path, message + more + ("; …" if len(found) > 4 else ""))
