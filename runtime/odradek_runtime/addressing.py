"""Addressing: which handler a name means, of this app or of another, and whether it takes the key that it was given.

Stands between an invocation that calls or sends and the command that goes out.
"""

from __future__ import annotations

from odradek import RetryableError, TerminalError

from .scope import Scope
from .unavailable import AbsentTopic


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
