"""How a log record is written: a line for people, or a JSON object a line for machines; both with the date and the zone.

A record that cannot be formatted is written as it is: no line of a user's is lost to a wrong placeholder.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime

from odradek import SharedContext
from odradek._current import STEP, running
from odradek_runtime.cli.flood import ours
from odradek_runtime.cli.printable import printable

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "invocation_id"}
"""Attributes of every record; what a record has besides, its author gave it (`extra=`)."""


class TextFormatter(logging.Formatter):
    """`2026-11-27T06:18:13.123+01:00 INFO    message`, then the traceback if there is one.

    Only the first line of a record begins at the margin: no text of anybody's passes for another record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  (logging's own name)
        """ISO 8601, local time with its zone."""
        return _time(record)

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        try:
            text = super().format(record)
        except Exception as error:  # noqa: BLE001  (whatever a value's own __str__ raises)
            text = f"{_time(record)} {record.levelname:<7} {_unformatted(record, error)}"
        return printable(text).replace("\n", "\n  ")


class JsonFormatter(logging.Formatter):
    """An object on one line: time, level, logger, message; where known invocation, handler, key; exception; the `extra=` given."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        shown: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_where(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            shown["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            shown["exception"] = record.exc_text
        if record.stack_info:
            shown["stack"] = record.stack_info
        shown.update({name: value for name, value in vars(record).items() if name not in STANDARD and name not in shown})
        try:
            return json.dumps(shown, default=_text)
        except Exception:  # noqa: BLE001  (keys that are no text, values that contain themselves)
            return json.dumps({name: value if isinstance(value, str) else _text(value) for name, value in shown.items()})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  (whatever a value's own __str__ raises)
        return _unformatted(record, error)


def _unformatted(record: logging.LogRecord, error: Exception) -> str:
    return f"{_text(record.msg)} {_text(record.args)} (cannot be formatted: {type(error).__name__}: {error})"


def _where(record: logging.LogRecord) -> dict[str, str]:
    """The invocation that a user's line comes from: its own logger's, else that of the handler or step that is running here."""
    told = getattr(record, "invocation_id", None)
    found = {} if told is None else {"invocation": str(told)}
    if ours(record):
        return found
    if (step := STEP.get()) is not None:
        return {"invocation": step.key.rpartition("-")[0], "step": step.key}
    if (context := running()) is not None:
        found["invocation"] = context.invocation_id
        found["handler"] = context._target  # pyright: ignore[reportPrivateUsage]
        if isinstance(context, SharedContext):
            found["key"] = context.key
    return found


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  (whatever a value's own __str__ raises)
        return f"({type(value).__name__} without text: {type(error).__name__})"
