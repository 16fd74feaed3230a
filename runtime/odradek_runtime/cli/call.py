"""`odradek call`: one HTTP request to a running worker, its answer on stdout."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import msgspec
import typer

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import FAILED, USAGE, CommandError, err
from odradek_runtime.cli.printable import printable
from odradek_runtime.configuration.settings import Settings

EXAMPLES = """
[bold]Examples[/]

  odradek call greeter/hello '"Ada"'                       SERVICE/HANDLER and its argument as JSON
  odradek call customer/bob/total                          OBJECT/KEY/HANDLER
  odradek call mailer/remind '{"to": "bob"}' --delay 30s   one-way, later
  odradek call shop/pay '{"eur": 5}' --idempotency-key 7f3a
  echo '{"eur": 5}' | odradek call shop/pay -
"""


def call(
    target: Annotated[str, typer.Argument(metavar="SERVICE/HANDLER | OBJECT/KEY/HANDLER", help="What to call.")],
    argument: Annotated[str | None, typer.Argument(metavar="JSON|-", help="Its argument; - reads it from standard input.")] = None,
    send: Annotated[bool, typer.Option("--send", help="One-way: return when it is durable, print its id.")] = False,
    delay: Annotated[str | None, typer.Option("--delay", metavar="30s", help="Start it later; implies --send.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="TEXT", help="The same key is the same invocation.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", envvar="ODRADEK_URL", help="The worker. Default: the one that runs here.")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up waiting for the answer.")] = None,
    data_dir: options.DataDir = None,
) -> None:
    """Call a handler and print its result."""
    settings = options.settings(data_dir=data_dir)
    base, body = worker_url(url, settings), body_of(argument)
    headers = {"content-type": "application/json"} if body else {}
    if idempotency_key is not None:
        headers["idempotency-key"] = idempotency_key
    path = _path(target) + ("/send" if send or delay else "")
    show(post(base + path + (f"?delay={quote(delay)}" if delay else ""), body, headers, timeout), sent=bool(send or delay))


def worker_url(url: str | None, settings: Settings) -> str:
    """Where the worker is that is asked: the one named, else the one that runs here. Raises CommandError."""
    return (_url(url) or connect.worker_url(settings) or f"http://127.0.0.1:{settings.port}").rstrip("/")


def post(url: str, body: bytes, headers: dict[str, str], timeout: float | None = None) -> httpx.Response:
    """The worker's answer. Raises CommandError when there is none."""
    parts = httpx.URL(url)
    base = f"{parts.scheme}://{parts.netloc.decode()}"
    try:
        return httpx.post(url, content=body, headers=headers, timeout=httpx.Timeout(timeout, connect=5))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise CommandError(f"no worker answers at {base}", "start one: odradek dev MODULE:APP, or say where it is: --url") from None
    except httpx.ReadTimeout:
        raise CommandError(
            f"no answer within {timeout:g} s: it goes on running", "with --idempotency-key the same call finds it again"
        ) from None
    except httpx.HTTPError as error:
        raise CommandError(f"{base}: {error or type(error).__name__}", "the worker went away: try again") from None


def _url(url: str | None) -> str | None:
    """The same, when it is one. Raises CommandError."""
    if not url:
        return None
    try:
        parts = httpx.URL(url)
        usable = parts.scheme in ("http", "https") and parts.host
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise CommandError(f"--url {url!r} is no URL of a worker", "write http://host:port", code=USAGE)
    return url


def _path(target: str) -> str:
    """`service/handler` or `object/key/handler` as a URL path; the key may hold slashes."""
    parts = target.strip("/").split("/")
    if len(parts) < 2 or not all((parts[0], parts[-1])):
        raise CommandError(
            f"{target!r} is no target",
            "write SERVICE/HANDLER or OBJECT/KEY/HANDLER, e.g. customer/bob/total",
            code=USAGE,
        )
    if len(parts) == 2:
        return f"/{quote(parts[0], safe='')}/{quote(parts[1], safe='')}"
    key = quote("/".join(parts[1:-1]), safe="")
    return f"/{quote(parts[0], safe='')}/{key}/{quote(parts[-1], safe='')}"


def body_of(argument: str | None) -> bytes:
    """The argument as JSON, from the line or from standard input. Raises CommandError."""
    if argument is None:
        return b""
    body = sys.stdin.buffer.read() if argument == "-" else argument.encode()
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if argument.startswith("--"):
            raise CommandError(f"no such option: {argument}", "odradek call --help lists them", code=USAGE) from None
        hint = (
            f"a string needs its quotes: '\"{argument}\"'"
            if argument != "-" and argument[:1] not in '{["'
            else "check its quotes and brackets"
        )
        raise CommandError(f"the argument is not JSON: {error}", hint, code=USAGE) from None
    return body


def show(reply: httpx.Response, *, sent: bool) -> None:
    """Print what came back. Raises CommandError for an error."""
    if reply.is_success:
        body = reply.content
        if sent:
            accepted: dict[str, Any] = msgspec.json.decode(body)
            sys.stdout.write(f"{accepted['invocationId']}\n")
            err().print(f"[dim]{accepted['status']}[/]")
        else:
            _write_result(body, is_json="json" in reply.headers.get("content-type", "json"))
        return
    try:
        failure: dict[str, Any] = msgspec.json.decode(reply.content)
        message = str(failure["message"])
        details: dict[str, str] = failure.get("metadata") or {}
        metadata = "".join(f"\n  {name}: {value}" for name, value in details.items())
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        message, metadata = reply.text[:500] or reply.reason_phrase, ""
    raise CommandError(
        f"{reply.status_code}: {message}{metadata}", "" if reply.status_code < 500 else _invocation(reply), code=FAILED
    )


def _invocation(reply: httpx.Response) -> str:
    identity = reply.headers.get("x-odradek-id")
    return f"invocation {identity}" if identity else ""


def _write_result(body: bytes, *, is_json: bool) -> None:
    """To a terminal readable and harmless, elsewhere to the byte."""
    if sys.stdout.isatty():
        body = msgspec.json.format(body) if body and is_json else body
        body = printable(body.decode(errors="backslashreplace")).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(body + (b"\n" if body else b""))
    sys.stdout.buffer.flush()
