"""What a context reaches while its handler waits: who asks then is a step, or a thread, that has taken the context along.

Stands between the context and its invocation from each wait to its end. What it refuses would be done again with each run of
a step, and not at all at a replay, beside whatever the handler does meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, cast

from odradek import TerminalError
from odradek._context import let_ask
from odradek._current import CURRENT

if TYPE_CHECKING:
    from odradek._port import Asked, Operations, Origin

    from .invocation import Live

_WORDS = {
    "read": "ctx.get", "write": "ctx.set", "now_ms": "ctx.now", "uuid_bytes": "ctx.uuid", "seed": "ctx.random",
    "turns": "the handler's event loop",
}  # fmt: skip
"""Of what has no kind: the words that are other than their names here."""


class Waiting:
    """Tells which invocation it is; refuses all that an invocation does."""

    __slots__ = ("_invocation",)

    def __init__(self, invocation: Operations) -> None:
        self._invocation = invocation

    @property
    def id(self) -> str:
        return self._invocation.id

    @property
    def key(self) -> bytes:
        return self._invocation.key

    @property
    def headers(self) -> Mapping[str, str]:
        return self._invocation.headers

    @property
    def origin(self) -> Origin | None:
        return self._invocation.origin

    @property
    def replaying(self) -> bool:
        return self._invocation.replaying

    def refuse(self, message: str) -> NoReturn:
        raise TerminalError(message, code=501)

    def begin(self, asked: Asked[object]) -> NoReturn:
        self._refuse(f"ctx.{asked.word}")

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse(_WORDS.get(name, f"ctx.{name}"))

    def _refuse(self, word: str) -> NoReturn:
        raise TerminalError(
            f"{word} works in the handler alone, not in a step or in a thread of its own: a step runs beside its handler, again"
            f" when it fails, and never at a replay. Return from the step what {word} needs, and use {word} after the await",
            code=501,
        )


def waiting(invocation: Operations) -> Operations:
    """What the context of this invocation asks until it goes on."""
    return cast("Operations", Waiting(invocation))


def close(live: Live) -> None:
    """Throw the coroutine away; durable operations in its `finally` blocks do nothing."""
    live.closed = True
    coroutine, live.coroutine = live.coroutine, None
    if coroutine is not None:
        let_ask(live.context, live)
        before = CURRENT.set(live.context)
        try:
            coroutine.close() if live.turns is None else live.turns.close(coroutine)
        except BaseException:  # noqa: BLE001, S110  (a finally block that awaits, or fails, is of no consequence here)
            pass
        CURRENT.reset(before)
    live.turns = None
    # The context holds it, and an error the frames that it came through: neither is left for the cycle collector to find.
    context = live.__dict__.pop("context", None)
    if context is not None:
        let_ask(context, waiting(live))
    for error in live.raised:
        error.__traceback__ = None
    live.raised = ()
