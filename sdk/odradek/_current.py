"""What "here" means: the context of the handler that is running, and the step whose body is running.

The runtime sets CURRENT while it drives a handler's coroutine, and STEP while it runs a step's body (where CURRENT
is not set, so that a step called by a step is an ordinary function). This is the one piece of ambient state.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol, TypeVar, overload

from odradek._context import Context


class Keyed(Protocol):
    """A step whose body runs. Its key is made when it is asked for: most bodies never ask."""

    @property
    def key(self) -> str: ...


CURRENT: ContextVar[Context | None] = ContextVar("odradek.current", default=None)
STEP: ContextVar[Keyed | None] = ContextVar("odradek.step", default=None)

C = TypeVar("C", bound=Context)


def running() -> Context | None:
    """Give the context of the running handler; None elsewhere, the body of a step included."""
    return CURRENT.get() if STEP.get() is None else None


@overload
def current() -> Context: ...


@overload
def current(kind: type[C], /) -> C: ...


def current(kind: type[Context] = Context, /) -> Context:
    """Give the context of the running handler, for integrations that cannot be handed one.

    `kind` asks for its capabilities: `current(ObjectContext)`. Raises RuntimeError outside a handler (also in the body
    of a step), and when the handler's context is of another kind.

    >>> current()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    RuntimeError: current(): no handler is running here; ...
    """
    context = running()
    if context is None:
        raise RuntimeError(
            "current(): no handler is running here; take the context as the handler's first parameter and pass it on"
        )
    if not isinstance(context, kind):
        raise RuntimeError(f"current({kind.__name__}): the running handler has a {type(context).__name__}")  # noqa: TRY004
    return context


def idempotency_key() -> str:
    """Give the key of the running step: the same at every attempt, another one for every journal entry.

    Hand it to the service that the step calls, so that a repeated attempt is not a second charge. Raises RuntimeError
    outside the body of a step.

    >>> idempotency_key()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    RuntimeError: idempotency_key(): no step is running here; ...
    """
    step = STEP.get()
    if step is None:
        raise RuntimeError("idempotency_key(): no step is running here; call it in a @step function, or one given to ctx.run")
    return step.key
