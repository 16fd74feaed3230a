"""`odradek resolve` and `odradek reject`: the value, or the error, that whoever waits for an awakeable is given."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from odradek_runtime.cli import call, options
from odradek_runtime.cli.errors import err

EXAMPLES = """
[bold]Examples[/]

  odradek resolve awk_….pay '{"order": "o1", "status": "paid"}'
  odradek resolve awk_….pay                                 no value: what awaits it gets None
  odradek reject awk_….pay "the card has expired" --code 402
"""
Identity = Annotated[str, typer.Argument(metavar="ID", help="Of the awakeable, as ctx.awakeable(…).id gave it.")]
Url = Annotated[str | None, typer.Option("--url", envvar="ODRADEK_URL", help="The worker. Default: the one that runs here.")]


def resolve(
    identity: Identity,
    value: Annotated[str | None, typer.Argument(metavar="JSON|-", help="The value; - reads it from standard input.")] = None,
    url: Url = None,
    data_dir: options.DataDir = None,
) -> None:
    """Give an awakeable its value. The first one is final."""
    body = b"null" if value is None else call.body_of(value)
    _settle(identity, "resolve", body, url, data_dir)


def reject(
    identity: Identity,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What whoever waits is told.")] = "rejected",
    code: Annotated[int, typer.Option("--code", min=400, max=599, help="The TerminalError's code.")] = 500,
    url: Url = None,
    data_dir: options.DataDir = None,
) -> None:
    """Fail an awakeable: what awaits it gets a TerminalError."""
    _settle(identity, "reject", msgspec.json.encode({"message": message, "code": code}), url, data_dir)


def _settle(identity: str, how: str, body: bytes, url: str | None, data_dir: options.DataDir) -> None:
    base = call.worker_url(url, options.settings(data_dir=data_dir))
    path = f"/odradek/awakeables/{quote(identity, safe='')}/{how}"
    reply = call.post(base + path, body, {"content-type": "application/json"})
    if not reply.is_success:
        call.show(reply, sent=False)
    err().print(f"[dim]{reply.json()['status']}[/]")
