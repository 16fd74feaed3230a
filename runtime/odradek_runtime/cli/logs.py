"""Sets up the log lines of a process on stderr: level and format as the settings say, floods of our own lines counted."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from odradek_runtime.cli.flood import FloodGuard, GuardedHandler
from odradek_runtime.cli.log_format import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    from odradek_runtime.settings import Settings

QUIET = ("httpx", "httpcore", "uvicorn", "asyncio")

logger = logging.getLogger("odradek")


def set_up_logging(settings: Settings) -> None:
    """Show what the settings say on stderr. An app that has set up logging itself keeps what they leave open.

    JSON means that every line is an object, so that warnings and what ends a thread become records, too.
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
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "?"
        logger.error("thread %s has ended: %s", name, ended.exc_value, exc_info=ended.exc_value)
