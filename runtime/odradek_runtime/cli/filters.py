"""Which invocations a command means: the filters that several commands share, and the query that the admin API takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from odradek_runtime.cli.errors import USAGE, CommandError
from odradek_runtime.cli.spans import span_s
from odradek_runtime.http.admin.client import Query
from odradek_runtime.worker.upkeep.sightings import ENDED, STATUSES

PANEL = "Which"
Service = Annotated[str, typer.Option("--service", "-s", metavar="NAME", help="Of this service or object.", rich_help_panel=PANEL)]
Handler = Annotated[
    str, typer.Option("--handler", metavar="[SERVICE/]NAME", help="Of this handler.", rich_help_panel=PANEL)
]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Of this key.", rich_help_panel=PANEL)]
Older = Annotated[
    str | None,
    typer.Option("--older", metavar="SPAN", help="Begun at least so long ago, e.g. 90s, 30m, 2h, 3d.", rich_help_panel=PANEL),
]
Younger = Annotated[
    str | None, typer.Option("--younger", metavar="SPAN", help="Begun at most so long ago.", rich_help_panel=PANEL)
]


def _complete_status(incomplete: str) -> list[str]:
    return [each for each in (*STATUSES, *ENDED) if each.startswith(incomplete)]


Status = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help=f"In this status; repeatable: {', '.join((*STATUSES, *ENDED))}.",
        autocompletion=_complete_status,
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Filters:
    """What was given on the command line."""

    service: str = ""
    handler: str = ""
    key: str | None = None
    statuses: list[str] = field(default_factory=list[str])
    older: str | None = None
    younger: str | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.service or self.handler or self.key is not None or self.statuses or self.older or self.younger)

    def query(self, limit: int) -> Query:
        """For the admin API. Raises CommandError for what makes no sense."""
        unknown = [each for each in self.statuses if each not in (*STATUSES, *ENDED)]
        if unknown:
            raise CommandError(f"--status {unknown[0]!r}: there is none", f"one of {', '.join((*STATUSES, *ENDED))}", code=USAGE)
        given = {
            "service": self.service,
            "handler": self.handler,
            "key": self.key,
            "status": self.statuses,
            "older_s": str(span_s("--older", self.older)) if self.older else "",
            "younger_s": str(span_s("--younger", self.younger)) if self.younger else "",
        }
        return {"limit": limit, **{name: value for name, value in given.items() if value or (name == "key" and value is not None)}}
