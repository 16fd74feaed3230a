"""Sets up the log lines of a process on stderr: level and format as the settings say, floods of our own lines counted."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from odradek_runtime.cli.flood import FloodGuard, GuardedHandler
from odradek_runtime.cli.log_format import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    from types import TracebackType

    from odradek_runtime.configuration.settings import Settings

QUIET = ("httpx", "httpcore", "uvicorn", "asyncio")

logger = logging.getLogger("odradek")


def set_up_logging(settings: Settings) -> None:
    """Show what the settings say on stderr. An app that has set up logging itself keeps what they leave open.

    JSON means that every line is an object, so that warnings, and errors that nobody can be told, become records, too.
    """
    formatter = JsonFormatter() if settings.log_format == "json" else TextFormatter()
    if not logging.root.handlers:
        handler = GuardedHandler(sys.stderr, FloodGuard())
        handler.setFormatter(formatter)
        logging.root.addHandler(handler)
        logging.root.setLevel(settings.log_level.upper() or logging.INFO)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
    else:
        if settings.log_level:
            logging.root.setLevel(settings.log_level.upper())
        if settings.log_format:
            for existing in logging.root.handlers:
                existing.setFormatter(formatter)
    if settings.log_format == "json":
        logging.captureWarnings(capture=True)
        sys.excepthook = _log_uncaught
        sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "?"
        logger.error("thread %s has ended: %s", name, ended.exc_value, exc_info=ended.exc_value)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.error("process %d ends by %s", os.getpid(), kind.__name__, exc_info=(kind, error, trace))


def _log_unraisable(ignored: sys.UnraisableHookArgs) -> None:
    error = ignored.exc_value
    logger.error("%s %r: %s", ignored.err_msg or "Exception ignored in", ignored.object, error, exc_info=error)


def as_line(message: str) -> str:
    """A warning as the log would show it, for who must not wait for a lock of the log's."""
    record = logger.makeRecord(logger.name, logging.WARNING, "", 0, message, (), None)
    formatter = logging.root.handlers[0].formatter if logging.root.handlers else None
    return (formatter or TextFormatter()).format(record)
