"""Handlers and subscriptions as the engine sees them: what to decode, which context to make, which function to run.

The decorators of `_service` make these; the engine finds them through `App.handlers()` and `App.subscriptions()` and
starts them with bytes. `start` decodes, makes the context and gives the coroutine, which nobody has driven yet.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from odradek._bad_input import DECODE_ERRORS, BadInput, explain
from odradek._callee import Callee, HandlerFunction, Mode
from odradek._errors import Seconds, seconds
from odradek._guard import Decode
from odradek._serde import encode_key

if TYPE_CHECKING:
    from odradek._context import Context
    from odradek._port import Operations
    from odradek._retry import RetryPolicy
    from odradek._topic import Topic

OnError = Literal["dead_letter", "pause", "skip"]
StartAt = Literal["earliest", "latest"] | datetime


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
    retention: Seconds | None
    """Of a workflow: how long its state, promises and result are kept after its `run` has ended; None = one day."""


class HandlerOptions(Options, total=False):
    """Options of one handler."""

    name: str | None
    """Its name on the wire; None = the function's."""


class Handler(Callee):
    """One handler: what callers know of it, how it may run, and how it starts."""

    __slots__ = (
        "body", "concurrency", "idempotency_retention_s", "implied", "journal_retention_s", "on_exhausted", "public", "retention_s",
        "retry", "timeout_s",
    )  # fmt: skip

    context_type: type[Context]

    def __init__(
        self,
        service: str,
        name: str,
        fn: HandlerFunction,
        mode: Mode,
        context_type: type[Context],
        options: Mapping[str, Any],
    ) -> None:
        self.implied = False
        """By `.on` alone, so far: `.handler` above it may still say how it runs."""
        self.body = fn
        super().__init__(service, name, fn, mode, context_type)
        self._set_options(options)

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
        self.retention_s = length_s("retention")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"{self.target}: concurrency must be 1 or more, or None for no limit, not {self.concurrency!r}")
        if self.on_exhausted not in ("pause", "fail"):
            raise ValueError(f"{self.target}: on_exhausted must be 'pause' or 'fail', not {self.on_exhausted!r}")

    def context(self, ops: Operations) -> Context:
        """Make the context of one invocation."""
        return self.context_type(ops, self.target)

    def start(self, ops: Operations, payload: bytes) -> tuple[Context, Coroutine[Any, Any, Any]]:
        """Decode a call's payload, make the context and the coroutine. Raises BadInput."""
        arguments = self.decode(payload)
        context = self.context_type(ops, self.target)
        return context, self.body(context, *arguments)

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
