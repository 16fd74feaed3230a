"""The `@step` decorator: a function whose result is recorded when a handler awaits it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from odradek._body import STEP_ATTRIBUTE, Step
from odradek._context import operations
from odradek._current import running
from odradek._errors import Seconds, seconds

if TYPE_CHECKING:
    from odradek._retry import RetryPolicy

AnyFn = TypeVar("AnyFn", bound=Callable[..., Coroutine[Any, Any, Any]])


@overload
def step(fn: AnyFn, /) -> AnyFn: ...


@overload
def step(
    *, name: str | None = None, retry: RetryPolicy | None = None, timeout: Seconds | None = None, idempotent: bool = False
) -> Callable[[AnyFn], AnyFn]: ...


def step(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: Seconds | None = None,
    idempotent: bool = False,
) -> Any:
    """Make an `async def` function a step: journaled when awaited inside a handler, an ordinary function elsewhere.

    The body runs on the real event loop, at least once; the result that was recorded is final, and is what the handler
    sees, also after a crash. It goes through the serde of the return annotation. A step awaited in another step's body
    is part of it.

    Args:
        fn: the function; any parameters.
        name: its name in the journal; None = the function's qualified name.
        retry: when a failed run is repeated; None = for ever, with backoff.
        timeout: of one run, seconds or timedelta.
        idempotent: running it once too often is harmless (a lookup, a PUT with `idempotency_key()`): it may start at once, before
            what asks for it is durable, and so for what is dropped and done again. Its recorded result is as final as any.

    Raises:
        TypeError: the function is not `async def`; use `ctx.run` for a sync one.

    >>> import asyncio
    >>> from odradek import RetryPolicy, step
    >>> @step(retry=RetryPolicy(max_attempts=5))
    ... async def charge(amount: int) -> str:
    ...     return f"charged {amount}"
    >>> asyncio.run(charge(5))
    'charged 5'
    """

    def decorate(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        if not inspect.iscoroutinefunction(fn):
            raise TypeError(f"@step {getattr(fn, '__qualname__', fn)}: a step must be `async def`; run a sync function by ctx.run")
        timeout_s = None if timeout is None else seconds("@step: timeout", timeout)
        made = Step(fn, name or fn.__qualname__, retry, timeout_s, idempotent=idempotent)

        @functools.wraps(fn)
        async def run(*args: Any, **kwargs: Any) -> Any:
            context = running()
            if context is None:
                return await fn(*args, **kwargs)
            return await operations(context).begin(made.body(args, kwargs))

        setattr(run, STEP_ATTRIBUTE, made)
        return run

    return decorate if fn is None else decorate(fn)
