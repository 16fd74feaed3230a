"""What others are told of an exception that was not meant for them: its class, and an id by which the worker's log has the rest.

A `TerminalError` is a handler's word to whoever waits, and `BadInput` says what is wrong with a value. Any other text was written
for whoever runs the worker (a connection's URL with the password), so it goes neither to callers nor into a topic. Stands
between what handlers, steps and types raise, and the failures that are made of it.
"""

from __future__ import annotations

import logging

from odradek._bad_input import BadInput
from odradek._errors import RefusedValue
from odradek_runtime.core.records.request import plain_text

logger = logging.getLogger("odradek")


class Disclosure:
    """Words an exception for others, and logs what they are not told. `shown` (setting errors_shown): they are told all of it."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def of(self, error: BaseException) -> str:
        """What the journal keeps of it."""
        return whole(error) if self._shows(error) else _class(error)

    def referred(self, what: str, error: BaseException, id_: str, target: str, *, trace: bool = True) -> str:
        """Log all of it under the id, and give what others are told of it."""
        log_whole(what, error, id_, target, trace=trace)
        return f"{what}: {whole(error)}" if self._shows(error) else f"{what}: {_class(error)}{_place(id_)}"

    def bad_input(self, bad: BadInput, id_: str, target: str) -> str:
        """What is wrong with a value, in our words, with what the value's own type or the app raised as `referred` has it."""
        if bad.hidden is None:
            return str(bad)
        log_whole(str(bad), bad.hidden, id_, target)
        return f"{bad} ({whole(bad.hidden)})" if self._shown else f"{bad}{_place(id_)}"

    def _shows(self, error: BaseException) -> bool:
        return self._shown or _is_ours(error)


def log_cause(error: BaseException, id_: str, target: str) -> None:
    """Log what a value's own type or encoder raised, of which a RefusedValue tells the class."""
    if isinstance(error, RefusedValue) and error.__cause__ is not None:
        log_whole(str(error), error.__cause__, id_, target)


def log_whole(what: str, error: BaseException, id_: str, target: str, *, trace: bool = True) -> None:
    """The line that an id leads to. It is never counted instead of written: somebody has been referred to it."""
    logger.warning(
        "%s (%s): %s: %s", id_, target, what, whole(error), exc_info=error if trace else None,
        extra={"handler": target, "invocation_id": id_},
    )  # fmt: skip


def whole(error: BaseException) -> str:
    """Class and text of an exception."""
    return f"{_class(error)}: {plain_text(error)}"


def ours_only(error: BaseException) -> str:
    """The text of an error of this package's own, which was written for people; of any other the class.

    >>> ours_only(RuntimeError("postgres://bob:secret@db"))
    "RuntimeError (the worker's log has more)"
    """
    return plain_text(error) if _is_ours(error) else f"{_class(error)} (the worker's log has more)"


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "odradek_runtime"


def _class(error: BaseException) -> str:
    return plain_text(type(error).__name__)


def _place(id_: str) -> str:
    return f" (in the worker's log: {id_})"
