"""The flags that several commands share, and how they become `Settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from odradek_runtime.cli.errors import USAGE, CommandError, err
from odradek_runtime.settings import ProjectFileError, Settings, SettingsError

BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        "-b",
        metavar="HOST:PORT,…",
        help="Kafka's addresses. Without: the embedded log.",
        rich_help_panel="Log",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where the embedded log and the stores lie. Default: .odradek",
        rich_help_panel="Log",
    ),
]
Kafka = Annotated[
    list[str] | None,
    typer.Option(
        "--kafka",
        metavar="KEY=VALUE",
        help="Any librdkafka option, e.g. security.protocol=SASL_SSL. Repeatable.",
        rich_help_panel="Log",
    ),
]


def settings(**flags: Any) -> Settings:
    """Flags over environment over pyproject.toml over defaults; `kafka`: a list of `key=value`. Raises CommandError."""
    options: list[str] = flags.pop("kafka", None) or []
    pairs: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise CommandError(f"--kafka {option!r} is not KEY=VALUE", "e.g. --kafka security.protocol=SSL", code=USAGE)
        pairs[name] = value
    try:
        return Settings.load({**flags, "kafka": pairs}, warn=_warn)
    except ProjectFileError as error:
        raise CommandError(str(error), "correct it: odradek takes its settings from [tool.odradek]", code=USAGE) from None
    except SettingsError as error:
        raise CommandError(
            str(error), "a flag, an ODRADEK_* variable or [tool.odradek] of pyproject.toml says so", code=USAGE
        ) from None


def _warn(line: str) -> None:
    err().print(f"[yellow]warning:[/] {escape(line)}")
