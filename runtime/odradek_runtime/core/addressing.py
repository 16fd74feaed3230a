"""Addressing: which handler a name means, of this app or of another, and the command that starts it there.

Stands between an invocation that calls or sends and the commands that go out.
"""

from __future__ import annotations

from typing import NamedTuple

from odradek import RetryableError, TerminalError
from odradek._port import CallOf, SendOf
from odradek_runtime.core.records.formats import Command, Entry, Header
from odradek_runtime.core.topics.unavailable import AbsentTopic
from odradek_runtime.routing import derived_id, id_hash, key_hash, request_id, workflow_id

from .scope import Scope


class AppNotStarted(RetryableError):
    """Another app that is called has no topics yet. Of our own, so that others are told its text."""


def resolve(scope: Scope, target: str, key: bytes | None) -> tuple[str, str]:
    """(other app or "", service/handler). Raises TerminalError when there is no such handler, or the key is amiss; AppNotStarted.

    Raises Unavailable or LogError when the other app's topic cannot be looked at now.
    """
    parts = target.split("/")
    if len(parts) == 3 and parts[0] != scope.app.name:
        try:
            scope.targets.partitions(f"{parts[0]}.commands", scope.steady_ms)
        except AbsentTopic as error:
            raise AppNotStarted(f"the app {parts[0]!r} has not been started yet: there is no {parts[0]}.commands") from error
        return parts[0], f"{parts[1]}/{parts[2]}"
    local = "/".join(parts[-2:])
    handler = scope.handlers.get(local)
    if handler is None:
        raise TerminalError(f"there is no handler {target!r}: the app has {', '.join(sorted(scope.handlers))}", code=404)
    if handler.keyed and not key:
        raise TerminalError(f"{target} needs key=", code=400)
    if not handler.keyed and key:
        raise TerminalError(f"{target} takes no key", code=400)
    return "", local


def child_id(parent: str, ref: int, key: bytes) -> str:
    """The id of what an invocation starts without an idempotency key: the same at each replay."""
    return derived_id(key_hash(key) if key else id_hash(parent), parent, ref)


def shared_id(scope: Scope, app: str, target: str, key: bytes, idempotency_key: str | None) -> str | None:
    """The id of what is started if all who ask for it mean the same: an idempotency key says so, and a workflow's key does."""
    handler = scope.handlers.get(target) if not app else None
    if handler is not None and handler.mode == "run":
        return workflow_id(handler.service, key)
    return request_id(target, key, idempotency_key) if idempotency_key is not None else None


class Callee(NamedTuple):
    """An invocation that another has started; `app`: of which app it is, "" for the same."""

    app: str
    id: str


def callee_of(own: str, parent: str, entry: Entry) -> Callee:
    """What an invocation of the app `own` has started, told from its entry: that has the id where an idempotency key decides it."""
    app, _, rest = entry.name.partition("/")
    known = entry.value.decode() if entry.value is not None else ""
    return Callee(app if "/" in rest and app != own else "", known or child_id(parent, entry.ref, entry.key or b""))


def invoke_command(scope: Scope, app: str, target: str, id_: str, key: bytes, asked: CallOf | SendOf) -> Command:
    """The command that starts it. Raises TerminalError when it is too large to be sent, or to be kept."""
    command = Command(
        kind="invoke", id=id_, target=target, key=key, payload=asked.payload, name=app,
        idempotent=asked.idempotency_key is not None,
        headers=[Header(name, value.encode()) for name, value in asked.headers.items()],
    )  # fmt: skip
    scope.sizes.check_invoke(app, command)
    return command
