"""Handlers and subscriptions as the engine sees them: what to decode, which context to make, which function to run.

The decorators of `_service` make these; the engine finds them through `App.handlers()` and `App.subscriptions()` and
starts them with bytes. `start` decodes, makes the context and gives the coroutine, which nobody has driven yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from odradek._annotations import Annotations, UndefinedError
from odradek._bad_input import DECODE_ERRORS, BadInput, explain
from odradek._errors import Misuse, Seconds, comes_later, seconds
from odradek._guard import Decode, Encode
from odradek._serde import JSON, Serde, encode_key, json_serde

if TYPE_CHECKING:
    from odradek._context import Context
    from odradek._port import Operations
    from odradek._retry import RetryPolicy
    from odradek._topic import Topic

Mode = Literal["plain", "exclusive", "shared", "run"]
OnError = Literal["dead_letter", "pause", "skip"]
StartAt = Literal["earliest", "latest"] | datetime
HandlerFunction = Callable[..., Coroutine[Any, Any, Any]]

_ATTRIBUTE = "__odradek_handler__"


class Options(TypedDict, total=False):
    """What a service sets for all its handlers, and a handler for itself. Times are seconds or timedeltas."""

    public: bool
    """Callable over HTTP (default), or only by other handlers."""
    retry: RetryPolicy | None
    """How a failed attempt is repeated; None = 50 ms doubling to 60 s, for ever if called, 24 h if from a record."""
    on_exhausted: Literal["pause", "fail"]
    """When `retry` gives up: fail the invocation (default), or pause it for an operator."""
    timeout: Seconds | None
    """The longest an invocation may take from its start; then it ends with a TerminalError of code 504."""
    concurrency: int | None
    """How many invocations of this handler run at once in one worker."""
    idempotency_retention: Seconds | None
    """How long the result of a call with an idempotency key is kept."""
    journal_retention: Seconds | None
    """How long the journal of an ended invocation is kept."""


class HandlerOptions(Options, total=False):
    """Options of one handler."""

    name: str | None
    """Its name on the wire; None = the function's."""


class Handler:
    """One handler: where it is reached, how it may run, and its function.

    `mode`: plain (of a service), exclusive or shared (of an object), run (of a workflow). `keyed` handlers run for one
    key.
    """

    __slots__ = (
        "_annotations", "_argument", "_encode_argument", "_encode_result", "_has_default", "_result", "body", "concurrency",
        "context_type", "fn", "idempotency_retention_s", "implied", "journal_retention_s", "keyed", "mode", "name", "on_exhausted",
        "public", "retry", "service", "takes_argument", "target", "timeout_s",
    )  # fmt: skip

    def __init__(
        self,
        service: str,
        name: str,
        fn: HandlerFunction,
        mode: Mode,
        context_type: type[Context],
        options: Mapping[str, Any],
    ) -> None:
        self.service = service
        self.name = name
        self.target = f"{service}/{name}"
        self.mode: Mode = mode
        self.implied = False
        """By `.on` alone, so far: `.handler` above it may still say how it runs."""
        self.keyed = mode != "plain"
        self.context_type = context_type
        self._set_options(options)
        self.fn = self.body = fn
        self._argument: Serde | None = None
        self._result: Serde | None = None
        self._encode_argument: Encode
        self._encode_result: Encode
        self._check_signature()
        self._annotations = Annotations(fn, self.target)
        self._annotations.try_now(self.resolve)

    def declare(self, name: str, options: Mapping[str, Any]) -> None:
        """Say how one runs that `.on` has made, and what it is called."""
        self.name, self.target, self.implied = name, f"{self.service}/{name}", False
        self._set_options(options)

    def _set_options(self, options: Mapping[str, Any]) -> None:
        def length_s(name: str) -> float | None:
            value = options.get(name)
            return None if value is None else seconds(f"{self.target}: {name}", value)

        self.public: bool = options.get("public", True)
        self.retry: RetryPolicy | None = options.get("retry")
        self.on_exhausted: Literal["pause", "fail"] = options.get("on_exhausted", "fail")
        self.timeout_s = length_s("timeout")
        self.concurrency: int | None = options.get("concurrency")
        self.idempotency_retention_s = length_s("idempotency_retention")
        self.journal_retention_s = length_s("journal_retention")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"{self.target}: concurrency must be 1 or more, or None for no limit, not {self.concurrency!r}")
        if self.on_exhausted not in ("pause", "fail"):
            raise ValueError(f"{self.target}: on_exhausted must be 'pause' or 'fail', not {self.on_exhausted!r}")

    def _check_signature(self) -> None:
        if not inspect.iscoroutinefunction(self.fn):
            raise TypeError(f"{self.target}: a handler must be an `async def` function")
        parameters = list(inspect.signature(self.fn).parameters.values())
        if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
            raise TypeError(f"{self.target}: a handler takes the context and at most one argument, both positional")
        if not 1 <= len(parameters) <= 2:
            raise TypeError(
                f"{self.target}: a handler takes the context and at most one argument (a dataclass can hold several), "
                f"not {len(parameters)} parameters"
            )
        self.takes_argument = len(parameters) == 2
        self._has_default = self.takes_argument and parameters[1].default is not inspect.Parameter.empty

    def resolve(self) -> None:
        """Resolve the type hints and choose the serdes. Raises TypeError, naming the handler, when it cannot."""
        if self._result is not None:
            return
        hints = self._annotations.resolve()
        names = list(inspect.signature(self.fn).parameters)
        first = hints.get(names[0], Any)
        if first is not Any and isinstance(first, type) and not issubclass(self.context_type, first):
            raise TypeError(
                f"{self.target}: the first parameter is the context, {self.context_type.__name__}, not {first.__name__}"
            )
        try:
            if self.takes_argument:
                self._argument = json_serde(hints.get(names[1], Any))
                self._encode_argument = self._argument.guard(f"{self.target}: argument")
            self._result = json_serde(hints.get("return", Any))
            self._encode_result = self._result.guard(f"{self.target}: result")
        except NameError as error:
            raise UndefinedError(f"{self.target}: {error}") from error
        except TypeError as error:
            raise TypeError(f"{self.target}: {error}") from error

    @property
    def argument(self) -> Serde:
        """How its argument travels; only for one that takes an argument."""
        self.resolve()
        return cast("Serde", self._argument)

    @property
    def result(self) -> Serde:
        """How its result travels."""
        self.resolve()
        return cast("Serde", self._result)

    def withhold(self, what: str) -> None:
        """Keep the handler registered, but let every invocation end in ComesLater(what)."""

        async def refuse(*_: object) -> None:
            comes_later(what)

        self.body = refuse

    def context(self, ops: Operations) -> Context:
        """Make the context of one invocation."""
        return self.context_type(ops, self.target)

    def decode(self, payload: bytes) -> tuple[Any, ...]:
        """Decode a call's payload into the arguments that follow the context: one or none. Raises BadInput."""
        if not self.takes_argument:
            if payload and payload != b"null":
                raise BadInput("$", f"{self.target} takes no argument: send an empty body")
            return ()
        if not payload and self._has_default:
            return ()
        serde = self._argument or self.argument
        if not payload and serde.content_type == JSON and not serde.admits_none:
            raise BadInput("$", f"expected {serde.expected} as JSON, but the body is empty")
        return (serde.load(payload),)

    def start(self, ops: Operations, payload: bytes) -> tuple[Context, Coroutine[Any, Any, Any]]:
        """Decode a call's payload, make the context and the coroutine. Raises BadInput."""
        arguments = self.decode(payload)
        context = self.context_type(ops, self.target)
        return context, self.body(context, *arguments)

    def encode_argument(self, given: bool, value: object) -> bytes:
        """Encode what a caller passes; raises TypeError when it passes one too many or too few, RefusedValue for a wrong one."""
        if given and not self.takes_argument:
            raise Misuse(f"{self.target} takes no argument")
        if not given:
            if self.takes_argument and not self._has_default:
                raise Misuse(f"{self.target} takes an argument: pass it after the handler")
            return b""
        self.resolve()
        return self._encode_argument(value)

    def encode_result(self, value: object) -> bytes:
        """Encode what the function returned. Raises RefusedValue when that would not come back."""
        self.resolve()
        return self._encode_result(value)

    def __repr__(self) -> str:
        return f"Handler({self.target!r}, {self.mode!r})"


class Subscription:
    """A topic whose records start a handler.

    `key` re-keys a record by its decoded value. `on_error` says where a bad record goes: to `dead_letter` (None = the
    app's own dead-letter topic), nowhere, or the partition pauses. `start_at` is where a new subscription begins to
    read. `retry` is for what its records start, instead of the handler's own.
    """

    __slots__ = ("_admits_none", "_decode", "dead_letter", "handler", "key", "on_error", "retry", "start_at", "topic")

    def __init__(
        self,
        topic: Topic[Any, Any],
        handler: Handler,
        *,
        key: Callable[[Any], str] | None,
        dead_letter: str | None,
        on_error: OnError,
        start_at: StartAt,
        retry: RetryPolicy | None = None,
    ) -> None:
        where = f"{handler.target} on {topic.name}"
        if on_error not in ("dead_letter", "pause", "skip"):
            raise ValueError(f"{where}: on_error must be 'dead_letter', 'pause' or 'skip', not {on_error!r}")
        if isinstance(start_at, datetime):
            if start_at.tzinfo is None:
                raise ValueError(f"{where}: start={start_at!r} has no time zone")
        elif start_at not in ("earliest", "latest"):
            raise ValueError(f"{where}: start must be 'earliest', 'latest' or a datetime, not {start_at!r}")
        if not handler.takes_argument:
            raise TypeError(f"{where}: the handler must take the record's value as its argument")
        self.topic = topic
        self.handler = handler
        self.key = key
        self.dead_letter = dead_letter
        self.retry = retry
        self.on_error: OnError = on_error
        self.start_at: StartAt = start_at
        self._decode: Decode = self._first_decode
        self._admits_none = False

    def resolve(self) -> None:
        """Choose the serde. Raises TypeError, naming topic and handler, when no serde fits the topic's type."""
        try:
            serde = self.topic.serde
        except (TypeError, NameError) as error:
            raise TypeError(f"{self.handler.target} on {self.topic.name}: {error}") from error
        self._decode = serde.decode
        self._admits_none = serde.admits_none

    @property
    def decoder(self) -> Decode:
        """The bare decoder of values, for a hot loop: it raises one of DECODE_ERRORS, and `decode` says what that means."""
        self.resolve()
        return self._decode

    def _first_decode(self, value: bytes) -> Any:
        self.resolve()
        return self._decode(value)

    def decode(self, value: bytes | None) -> Any:
        """Decode a record's value. Raises BadInput."""
        if value is None:
            return self._tombstone()
        try:
            return self._decode(value)
        except DECODE_ERRORS as error:
            raise explain(error, self.topic.serde.expected) from error

    def _tombstone(self) -> None:
        self.resolve()
        if not self._admits_none:
            expected = self.topic.serde.expected
            raise BadInput(
                "$",
                f"the record has no value (tombstone): declare the topic's value as {expected} | None to take it",
            )

    def start(self, ops: Operations, value: bytes | None) -> tuple[Context, Coroutine[Any, Any, Any]]:
        """Decode a record's value, make the context and the coroutine. Raises BadInput."""
        return self.start_decoded(ops, self.decode(value))

    def start_decoded(self, ops: Operations, value: Any) -> tuple[Context, Coroutine[Any, Any, Any]]:
        """Make the context and the coroutine for a value that `decode` gave."""
        handler = self.handler
        context = handler.context_type(ops, handler.target)
        return context, handler.body(context, value)

    def record_key(self, raw_key: bytes | None, value: Any) -> bytes:
        """Give the object key of a record: what `key=` makes of its value, else its own key. Raises BadInput."""
        if self.key is None:
            if not raw_key and self.handler.keyed:
                raise BadInput(
                    "key",
                    f"the record has no key, and {self.handler.target} needs one: key the records, or pass key= to .on",
                )
            return raw_key or b""
        try:
            key = self.key(value)
        except BaseException as error:  # whatever the user's function raises is this record's fault
            raise BadInput("key", f"key= raised {type(error).__name__}", error) from error
        if not isinstance(key, str) or not key:  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
            raise BadInput("key", f"key= must give a str that is not empty, not {key!r}")
        return encode_key(key)

    def __repr__(self) -> str:
        return f"Subscription({self.topic.name!r}, {self.handler.target!r})"


def attach(fn: HandlerFunction, handler: Handler) -> None:
    """Let `handler_of(fn)` find `handler`. Raises ValueError when the function is a handler elsewhere already."""
    other = getattr(fn, _ATTRIBUTE, None)
    if other is not None:
        raise ValueError(f"{handler.target}: {fn.__qualname__} is already {other.target}; each handler needs its own function")
    setattr(fn, _ATTRIBUTE, handler)


def handler_of(fn: object) -> Handler:
    """Give the handler that a decorated function is; raises TypeError when it is none."""
    handler = getattr(fn, _ATTRIBUTE, None)
    if not isinstance(handler, Handler):
        raise Misuse(f"{fn!r} is not a handler: decorate it with @service.handler, or name it as 'service/handler'")
    return handler
