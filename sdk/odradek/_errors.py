"""The errors that a handler raises or catches, and the one that says "not in this release".

Whatever a handler raises decides its end: `TerminalError` ends the invocation like a return, anything else is tried
again.
"""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Seconds = float | timedelta
"""A length of time: seconds, or a timedelta."""

UNSET: Any = object()
"""The default of parameters for which None is a value."""

NOTHING: Mapping[str, str] = MappingProxyType({})
"""The default of `headers=` and `metadata=`."""


def seconds(name: str, value: Seconds) -> float:
    """Give `value` in seconds; raises Misuse, naming the parameter, when it is negative or not a length of time."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if type(value) not in (int, float):
        raise Misuse(f"{name} must be seconds (int or float) or a timedelta, not {value!r}")
    if not 0 <= value < float("inf"):
        raise Misuse(f"{name} must be at least 0 and finite, not {value!r}")
    return float(value)


def unix_ms(what: str, moment: datetime) -> int:
    """Give a moment as Kafka writes it; raises RefusedValue, naming what it is for, when it has no time zone."""
    if moment.tzinfo is None:
        raise RefusedValue(what, "$", f"{moment!r} has no time zone; give it one (tzinfo=UTC)")
    return round(moment.timestamp() * 1000)


class TerminalError(Exception):
    """A failure that ends the invocation: it is not tried again, and what the handler did before stays done.

    `code` is an HTTP status from 400 to 599 (the reply's when the caller came over HTTP), `message` what the caller
    reads, `metadata` whatever else it should know, text to text. Raises ValueError when `code` is out of range.

    >>> error = TerminalError("out of stock", code=409, metadata={"sku": "A1"})
    >>> str(error), error.code, error.metadata["sku"]
    ('out of stock', 409, 'A1')
    """

    code: int
    message: str
    metadata: Mapping[str, str]
    invocation_id: str = ""
    """Raised by a client: of the invocation that failed, or goes on without an answer (503). Empty when there is none."""

    def __init__(self, message: str, *, code: int = 500, metadata: Mapping[str, str] = NOTHING) -> None:
        super().__init__(message)
        self.code = error_code("TerminalError: code", code)
        self.message = message
        self.metadata = dict(metadata)


class RetryableError(Exception):
    """A failure that is tried again whatever `retry_on` says.

    `retry_after` (seconds or timedelta) replaces the next delay.

    `retry_after_s` is that delay in seconds, None when the policy's own backoff applies. Raises ValueError when
    negative.

    >>> RetryableError("rate limited", retry_after=2).retry_after_s
    2.0
    """

    retry_after_s: float | None

    def __init__(self, message: str = "", *, retry_after: Seconds | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = None if retry_after is None else seconds("retry_after", retry_after)


class Misuse(TerminalError, TypeError, ValueError):
    """An argument that a word of this package does not take: a negative delay, a lambda without a name, a key too many.

    It is terminal (code 500), because no retry mends the code that passes it; it is a TypeError and a ValueError, too, so that
    where it is raised outside a handler nobody need know more.
    """


class RefusedValue(Misuse):
    """A value that would not come back as it is: not of its declared type, or one that its encoding cannot carry.

    Raised where the value goes in: by `ctx.set`, `ctx.publish`, `call` and `send`, for a step's result, and for what a
    handler returns.

    `field` is the JSON path within the value ("$.lines[0].price"), `message` what is wrong there and the way out.
    """

    field: str

    def __init__(self, what: str, field: str, reason: str) -> None:
        super().__init__(f"{what}: {field}: {reason}")
        self.field = field


def error_code(what: str, code: int) -> int:
    """Give an error's code back. Raises Misuse, which names `what`, when it is none."""
    if type(code) is not int or not 400 <= code <= 599:
        raise Misuse(f"{what} must be an HTTP error status, 400 to 599, not {code!r}")
    return code


class Refused(BaseException):
    """A handler has used what does not work in one (yet): its invocation ends at once, with code 501 and this message.

    What it did since its last wait is dropped, since no retry mends its code, and a dead letter may be read again once
    somebody has. No Exception, so that no `except Exception` goes on as if nothing were amiss; who catches even this
    changes nothing.
    """


class ComesLater(TerminalError, RuntimeError):
    """Raised by every word of the API that is declared, but has no engine behind it yet.

    It is terminal (code 501), so that an invocation that reaches such a word ends at once instead of retrying for ever.
    """


def comes_later(what: str) -> NoReturn:
    """Raise ComesLater for `what`, the word as the user wrote it. The only place that does."""
    raise ComesLater(f"{what} comes in a later release of odradek", code=501)
