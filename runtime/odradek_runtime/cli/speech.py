"""What the supervisor and its workers say of themselves: coloured lines for people, or records where the log is JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from odradek_runtime.cli.errors import DEFECT, CommandError, err
from odradek_runtime.cli.logs import set_up_logging

if TYPE_CHECKING:
    from rich.console import Console

    from odradek_runtime.configuration.settings import Settings

logger = logging.getLogger("odradek")


class Speech:
    """Says lines on a console, or in the log when the settings want JSON, one object a line."""

    def __init__(self, settings: Settings, console: Callable[[], Console] = err) -> None:
        self._console = console
        self.in_json = settings.log_format == "json"

    def say(self, markup: str, level: int = logging.INFO) -> None:
        """One line, with rich's markup."""
        if self.in_json:
            logger.log(level, "%s", Text.from_markup(markup).plain)
        else:
            self._console().print(markup)

    def warn(self, markup: str) -> None:
        """A line that somebody should act on."""
        self.say(markup if self.in_json else f"[yellow]warning:[/] {markup}", logging.WARNING)


@contextmanager
def errors_told(settings: Settings) -> Generator[None]:
    """In a JSON log, what ends the command is a record like the others, with its remedy; else it is raised further."""
    try:
        yield
    except CommandError as error:
        if settings.log_format != "json":
            raise
        set_up_logging(settings)
        told = {"remedy": error.remedy} if error.remedy else None
        logger.error("%s", error.message, extra=told)  # noqa: TRY400  (a wrong setting has no traceback worth reading)
        raise typer.Exit(error.code) from None
    except typer.Exit:
        raise
    except Exception as error:
        if settings.log_format != "json":
            raise
        logger.exception("%s", type(error).__name__)
        raise typer.Exit(DEFECT) from None
