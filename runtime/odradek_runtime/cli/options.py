"""The flags that several commands share, and how they become `Settings`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from odradek_runtime.cli.errors import USAGE, CommandError
from odradek_runtime.cli.logs import set_up_logging
from odradek_runtime.cli.speech import Speech
from odradek_runtime.configuration.kafka_options import is_secret, variable_of
from odradek_runtime.configuration.settings import ProjectFileError, Settings, SettingsError

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
        help="Any librdkafka option, e.g. security.protocol=SASL_SSL. Repeatable. Secrets: ODRADEK_KAFKA_SASL_PASSWORD or …_FILE.",
        rich_help_panel="Log",
    ),
]


LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="debug|info|warning|error", help="The least that is logged. Default: info", rich_help_panel="Logs"
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option("--log-format", metavar="text|json", help="json: one object a line. Default: text", rich_help_panel="Logs"),
]


def settings(**flags: Any) -> Settings:
    """Flags over environment over pyproject.toml over defaults; `kafka`: a list of `key=value`. Raises CommandError."""
    options: list[str] = flags.pop("kafka", None) or []
    pairs: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if is_secret(first_word(name)):
            _refuse_secret(first_word(name))
        if not equals or not name:
            raise CommandError(f"--kafka {option!r} is not KEY=VALUE", "e.g. --kafka security.protocol=SSL", code=USAGE)
        pairs[name] = value
    try:
        lines: list[str] = []
        loaded = Settings.load({**flags, "kafka": pairs}, warn=lines.append)
    except ProjectFileError as error:
        raise CommandError(str(error), "correct it: odradek takes its settings from [tool.odradek]", code=USAGE) from None
    except SettingsError as error:
        raise CommandError(
            str(error), "a flag, an ODRADEK_* variable or [tool.odradek] of pyproject.toml says so", code=USAGE
        ) from None
    if loaded.log_format == "json" and lines:
        set_up_logging(loaded)
    for line in lines:
        Speech(loaded).warn(escape(line))
    return loaded


def first_word(name: str) -> str:
    """An option's name, also where a space or a colon stands in place of the equals sign."""
    return re.split(r"[\s:]", name.strip(), maxsplit=1)[0]


def _refuse_secret(option: str) -> NoReturn:
    variable = variable_of(option)
    raise CommandError(
        f"--kafka {option}=… is not taken: everybody on this machine can read a command line",
        f"set {variable}, or {variable}_FILE to the path of a file that holds it; and change it, now that it was shown",
        code=USAGE,
    )


def is_text(argument: str) -> bool:
    """Whether an argument was UTF-8: the system may hand over any bytes."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
