"""Calling handlers: the words that contexts, the client and the test app share.

`Calls` turns a handler (its function, or its name) and a Python argument into a `Target`: bytes and a way to decode the
answer. What sends it is up to the subclass.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from typing_extensions import TypeForm

from odradek._callee import callee_of
from odradek._errors import NOTHING, UNSET, Misuse, RefusedValue, Seconds, comes_later
from odradek._guard import Decode
from odradek._serde import encode_any, encode_headers, encode_key, serde_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from odradek._future import Call

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")
C = TypeVar("C")
W = TypeVar("W")

AWAITED = "let whoever has the answer call a handler of an object, which keeps it in its state or goes on with it"


@dataclass(frozen=True, slots=True)
class Target:
    """A handler to be called: `name` is "service/handler", `key` None when it has none."""

    name: str
    key: bytes | None
    payload: bytes
    decode: Decode
    raw: bool
    """The payload is bytes of the caller's own, not JSON."""


class Calls(Generic[C, W]):
    """`call`, `send` and `attach` for handlers given as functions or as "service/handler".

    Whether a function's handler needs a key is told by its first parameter: what takes any context (`C`) is a service's and has
    none; all others take what a workflow's run takes (`W`), which can do everything.
    """

    __slots__ = ()

    @overload
    def call(
        self,
        handler: str,
        arg: object = ...,
        /,
        *,
        returns: TypeForm[T],
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> Call[T]: ...
    @overload
    def call(
        self,
        handler: Callable[[C, A], Awaitable[R]],
        arg: A,
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> Call[R]: ...
    @overload
    def call(
        self,
        handler: Callable[[C], Awaitable[R]],
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> Call[R]: ...
    @overload
    def call(
        self,
        handler: Callable[[W, A], Awaitable[R]],
        arg: A,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> Call[R]: ...
    @overload
    def call(
        self,
        handler: Callable[[W], Awaitable[R]],
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> Call[R]: ...

    def call(
        self,
        handler: Any,
        arg: Any = UNSET,
        /,
        *,
        returns: Any = UNSET,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = NOTHING,
    ) -> Call[Any]:
        """Start a handler and give its result, to come.

        Args:
            handler: the decorated function, or "service/handler" (then `returns` is the type of the result).
            arg: its argument; leave out when it takes none.
            key: the object's or workflow's key; needed exactly when the handler has one.
            idempotency_key: two calls with the same one are the same invocation.
            headers: text that the callee finds in `ctx.headers`.

        Raises:
            TypeError: key, argument or `returns` is missing, or one too many; the argument is not of the type that the
                handler declares, or would not come back as it is. It is a TerminalError, too: no retry mends it.
            TerminalError: when awaited: what the callee ended with (404 when there is no such handler).

        Example::

            total = await ctx.call(customer_total, key="bob")
            stock = await ctx.call("stock/reserve", {"sku": "A1"}, returns=int)
        """
        if isinstance(handler, str):
            if returns is UNSET:
                raise Misuse(f"call({handler!r}): pass returns=, the type of the result")
        elif returns is not UNSET:
            raise Misuse(
                "call(): returns= is for a handler given by name; a function's result has the type it is annotated with"
            )
        target = _target(handler, arg, key, returns)
        _check_headers(target, headers)
        return self._call(target, idempotency_key, headers)

    @overload
    def send(
        self,
        handler: str,
        arg: object = ...,
        /,
        *,
        delay: Seconds | datetime | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> str: ...
    @overload
    def send(
        self,
        handler: Callable[[C, A], Awaitable[object]],
        arg: A,
        /,
        *,
        delay: Seconds | datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> str: ...
    @overload
    def send(
        self,
        handler: Callable[[C], Awaitable[object]],
        /,
        *,
        delay: Seconds | datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> str: ...
    @overload
    def send(
        self,
        handler: Callable[[W, A], Awaitable[object]],
        arg: A,
        /,
        *,
        key: str,
        delay: Seconds | datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> str: ...
    @overload
    def send(
        self,
        handler: Callable[[W], Awaitable[object]],
        /,
        *,
        key: str,
        delay: Seconds | datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = ...,
    ) -> str: ...

    def send(
        self,
        handler: Any,
        arg: Any = UNSET,
        /,
        *,
        delay: Seconds | datetime | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] = NOTHING,
    ) -> str:
        """Start a handler one-way and give its invocation id. It runs even if the sender has long ended.

        As `call`, without a result. `delay` is seconds, a timedelta, or the datetime (with a time zone) before which it
        does not start. Raises TypeError as `call` does, ValueError for a negative delay or a datetime without a zone: both are
        TerminalErrors, too, since no retry mends them.

        Example::

            ctx.send(thank, order.id, key=ctx.key, delay=timedelta(days=30))
        """
        if isinstance(delay, datetime) and delay.tzinfo is None:
            raise Misuse(f"send(): delay={delay!r} has no time zone")
        target = _target(handler, arg, key, Any)
        _check_headers(target, headers)
        return self._send(target, delay, idempotency_key, headers)

    @overload
    def attach(self, invocation_id: str, /, *, returns: TypeForm[T]) -> Call[T]: ...
    @overload
    def attach(
        self, handler: Callable[[W, Any], Awaitable[R]], /, *, key: str, idempotency_key: str | None = None
    ) -> Call[R]: ...
    @overload
    def attach(self, handler: Callable[[C, Any], Awaitable[R]], /, *, idempotency_key: str) -> Call[R]: ...

    def attach(
        self, target: Any, /, *, returns: Any = UNSET, key: str | None = None, idempotency_key: str | None = None
    ) -> Call[Any]:
        """Give the result of what was started before: by its id, by a workflow's key, or by a handler and idempotency key.

        Raises TypeError when `returns` (for an id), `key` (for a workflow) or `idempotency_key` (for a handler) is missing; when
        awaited, TerminalError: what the invocation ended with, 404 when there is none.

        Example::

            granted = await client.attach(approve, key="request-7")
        """
        if isinstance(target, str):
            if returns is UNSET or key is not None:
                raise Misuse("attach(invocation_id): pass returns=, the type of the result, and no key")
            return self._attach_invocation(target, serde_for("attach: returns=", returns).load)
        handler = callee_of(target)
        if handler.mode == "run" and key:
            return self._attach_workflow(handler.service, encode_key(key), handler.result.load)
        if handler.mode == "run" or idempotency_key is None or handler.keyed != bool(key):
            raise Misuse(
                f"attach({handler.target}): pass the run function of a workflow and its key, a handler with the key and the "
                "idempotency key that it was called with, or an invocation id"
            )
        raw_key = encode_key(key) if key else None
        return self._attach_call(handler.target, raw_key, idempotency_key, handler.result.load)

    def resolve(self, awakeable_id: str, value: object, /) -> None:
        """Complete an awakeable with a value, encoded by its own type."""
        self._complete(awakeable_id, encode_any(value, "resolve: the value"))

    def reject(self, awakeable_id: str, message: str, /, *, code: int = 500) -> None:
        """Fail an awakeable: whoever awaits it gets TerminalError(message, code=code)."""
        self._fail(awakeable_id, message, code)

    def cancel(self, target: str | Call[Any], /) -> None:
        """Cancel an invocation, by its call or its id: asyncio.CancelledError at its next await."""
        self._cancel(target if isinstance(target, str) else target.invocation_id)

    @abstractmethod
    def _call(self, target: Target, idempotency_key: str | None, headers: Mapping[str, str]) -> Call[Any]: ...

    @abstractmethod
    def _send(
        self, target: Target, delay: Seconds | datetime | None, idempotency_key: str | None, headers: Mapping[str, str]
    ) -> str: ...

    @abstractmethod
    def _attach_invocation(self, invocation_id: str, decode: Decode) -> Call[Any]: ...

    @abstractmethod
    def _attach_workflow(self, workflow: str, key: bytes, decode: Decode) -> Call[Any]: ...

    @abstractmethod
    def _attach_call(self, target: str, key: bytes | None, idempotency_key: str, decode: Decode) -> Call[Any]: ...

    @abstractmethod
    def _complete(self, awakeable_id: str, value: bytes) -> None: ...

    @abstractmethod
    def _cancel(self, invocation_id: str) -> None: ...

    @abstractmethod
    def _fail(self, awakeable_id: str, message: str, code: int) -> None: ...

    def _later(self, what: str, instead: str) -> NoReturn:
        """Say that there is no such word yet, and what does until there is."""
        comes_later(what)


def _target(handler: Any, arg: Any, key: str | None, returns: Any) -> Target:
    given = arg is not UNSET
    if isinstance(handler, str):
        parts = handler.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise Misuse(f"{handler!r} does not name a handler: write 'service/handler' (of another app: 'app/service/handler')")
        payload = encode_any(arg, f"{handler}: argument") if given else b""
        decode = serde_for(f"call({handler!r}): returns=", returns).load
        return Target(handler, _key(handler, key), payload, decode, isinstance(arg, bytes))
    found = callee_of(handler)
    if found.keyed and key is None:
        raise Misuse(f"{found.target} runs for one key: pass key=")
    if not found.keyed and key is not None:
        raise Misuse(f"{found.target} belongs to a service, which has no keys: leave out key=")
    payload = found.encode_argument(given, arg)
    return Target(found.target, _key(found.target, key), payload, found.result.load, isinstance(arg, bytes))


def _check_headers(target: Target, headers: Mapping[str, str]) -> None:
    if headers:
        for name, value in headers.items():
            if type(value) is not str:  # pyright: ignore[reportUnnecessaryComparison]  (untyped callers)
                raise RefusedValue(target.name, f"header {name!r}", f"must be a str, not {type(value).__qualname__}")
        encode_headers(target.name, headers)


def _key(target: str, key: str | None) -> bytes | None:
    if key is None:
        return None
    if key == "":
        raise Misuse(f"{target}: the key is empty")
    return encode_key(key)
