"""From a function and its arguments to a step that the engine can run and record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from odradek._annotations import Annotations, UndefinedError
from odradek._arguments import bound
from odradek._errors import UNSET, Misuse, Seconds, TerminalError, seconds
from odradek._port import StepBody
from odradek._serde import Serde, json_serde, serde_for

if TYPE_CHECKING:
    from odradek._retry import RetryPolicy

STEP_ATTRIBUTE = "__odradek_step__"

_UNDEFINED: Any = object()


class Step:
    """What `@step` knows of a function: the function itself, and how its body runs."""

    __slots__ = ("_annotations", "_encode", "_serde", "fn", "idempotent", "name", "retry", "timeout_s")

    def __init__(
        self,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        retry: RetryPolicy | None,
        timeout_s: float | None,
        *,
        idempotent: bool,
    ) -> None:
        self.fn = fn
        self.name = name
        self.retry = retry
        self.timeout_s = timeout_s
        self.idempotent = idempotent
        self._serde: Serde | None = None
        self._encode: Callable[[Any], bytes]
        self._annotations = Annotations(fn, f"@step {name}")
        self._annotations.try_now(self.serde)

    def serde(self) -> Serde:
        """How its result travels. Raises TypeError, naming the step, when its type has no serde."""
        if self._serde is None:
            try:
                self._serde = json_serde(self._annotations.resolve().get("return", Any))
                self._encode = _recorder(self.name, self._serde)
            except NameError as error:
                raise UndefinedError(f"@step {self.name}: {error}") from error
            except TypeError as error:
                raise type(error)(f"@step {self.name}: {error}") from error
        return self._serde

    def body(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StepBody:
        """Make one run of it."""
        serde = self.serde()
        run = bound(self.fn, args, kwargs)
        return StepBody(self.name, run, True, self._encode, serde.load, self.retry, self.timeout_s, self.idempotent)


def step_body(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    returns: Any,
    name: str | None,
    retry: RetryPolicy | None,
    timeout: Seconds | None,
    *,
    idempotent: bool = False,
) -> StepBody:
    """Make a step of any callable, as `ctx.run` takes it; a `@step` function keeps what it does not override."""
    if not callable(fn):
        raise Misuse(f"ctx.run takes a function and its arguments, ctx.run(function, *arguments), not {_called(fn)}")
    timeout_s = None if timeout is None else seconds("ctx.run: timeout", timeout)
    step: Step | None = getattr(fn, STEP_ATTRIBUTE, None)
    if step is not None:
        name = name or step.name
        serde = step.serde() if returns is UNSET else serde_for(f"ctx.run({name}): returns=", returns)
        return StepBody(
            name,
            bound(step.fn, args, {}),
            True,
            _recorder(name, serde),
            serde.load,
            retry or step.retry,
            step.timeout_s if timeout_s is None else timeout_s,
            idempotent or step.idempotent,
        )
    hint = _result_hint(fn)
    returns_awaitable = get_origin(hint) in (Awaitable, Coroutine)
    if returns is UNSET:
        returns = get_args(hint)[-1] if returns_awaitable else hint
        if returns is _UNDEFINED:
            raise Misuse(f"ctx.run({_name(fn, name)}): its return annotation is not defined at run time; pass returns=")
    name = _name(fn, name)
    serde = serde_for(f"ctx.run({name}): returns=", returns)
    is_async = returns_awaitable or _is_async(fn)
    return StepBody(name, bound(fn, args, {}), is_async, _recorder(name, serde), serde.load, retry, timeout_s, idempotent)


def _called(given: object) -> str:
    """What stands in place of a function: as a rule, what came of calling it. A coroutine is closed, for nobody awaits it."""
    if not inspect.iscoroutine(given):
        return repr(given)
    given.close()
    return f"what {given.__qualname__}(…) gives"


def _recorder(name: str, serde: Serde) -> Callable[[Any], bytes]:
    """Encode a step's result. What cannot be is its end: the body has run, and running it again would do its work twice."""
    what = f"step {name}: it ran, but its result cannot be recorded"
    guarded = serde.guard(what)

    def encode(value: Any) -> bytes:
        try:
            return guarded(value)
        except TerminalError:
            raise
        except BaseException as error:  # the type's own code may raise even SystemExit
            raise TerminalError(f"{what}: {type(error).__name__}") from error

    return encode


def _name(fn: Any, given: str | None) -> str:
    while given is None and isinstance(fn, functools.partial):
        fn = fn.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  (partial of anything)
    name = given or str(getattr(fn, "__qualname__", "") or type(fn).__qualname__)  # pyright: ignore[reportUnknownArgumentType]
    if name.rpartition(".")[2] == "<lambda>":
        raise Misuse("ctx.run(lambda): a lambda has no name that survives a change of the code; pass name=")
    return name


def _is_async(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  (its type)


def _result_hint(fn: Any) -> Any:
    """Give the return annotation of any callable: Any when it has none, _UNDEFINED when it names what is not there."""
    while isinstance(fn, functools.partial):
        fn = fn.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  (partial of anything)
    if isinstance(fn, type):
        return fn  # pyright: ignore[reportUnknownVariableType]  (a class makes its instances)
    if not getattr(fn, "__annotations__", None):  # pyright: ignore[reportUnknownArgumentType]
        fn = getattr(type(fn), "__call__", None)  # noqa: B004  (its signature)  # pyright: ignore[reportUnknownArgumentType]
    if not getattr(fn, "__annotations__", None):
        return Any
    try:
        return get_type_hints(fn, include_extras=True).get("return", Any)  # pyright: ignore[reportArgumentType]
    except NameError:
        return _UNDEFINED
