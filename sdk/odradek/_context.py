"""What a handler can do: the context is its first parameter, and the parameter's type says which words it has.

A context turns Python values into bytes and asks the engine through `Operations`; it holds nothing of its own that a
replay would have to restore. `get`, `set`, `publish` and `key` are on the hot path: everything else is made when first
asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, overload
from uuid import UUID

from typing_extensions import TypeForm

from odradek._bad_input import DECODE_ERRORS, explain
from odradek._body import step_body
from odradek._calls import AWAITED, Calls, Target
from odradek._errors import UNSET, Misuse, RefusedValue, Seconds, error_code, seconds, unix_ms
from odradek._logger import ContextLogger
from odradek._port import AttachTo, AwakeableOf, CallOf, CancelOf, ResolveOf, SendOf, Sleep
from odradek._promise import Promise
from odradek._serde import decode_key, describe, encode_any, encode_headers, serde_for
from odradek._state import Name, State
from odradek._topic import Record, Topic

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from odradek._future import Awakeable, Call, Future
    from odradek._guard import Decode
    from odradek._port import Operations
    from odradek._retry import RetryPolicy

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")

_NO_HEADERS: Mapping[str, str | bytes] = {}


class Context(Calls["Context", "WorkflowContext"]):
    """What every handler can do: run steps, wait, call, send, publish. The context of a service's handlers.

    `run`, `sleep` and `call` give eager futures: they act when called, not when awaited.

    Example::

        @app.handler
        async def place(ctx: Context, order: Order) -> str:
            receipt = await ctx.run(pay, order, retry=RetryPolicy(max_attempts=3))
            ctx.publish(receipts, receipt, key=order.id)
            return receipt.id
    """

    __slots__ = ("_logger", "_ops", "_random", "_target")

    _logger: logging.Logger
    _random: Random

    def __init__(self, ops: Operations, target: str) -> None:
        self._ops = ops
        self._target = target

    @property
    def invocation_id(self) -> str:
        """The id of this invocation, the same at every attempt."""
        return self._ops.id

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the call, or those of the record that are text; names in lower case."""
        return self._ops.headers

    @property
    def record(self) -> Record:
        """The record that started this invocation. Raises LookupError when none did (a call, HTTP, a timer)."""
        origin = self._ops.origin
        if origin is None:
            raise LookupError(f"ctx.record: {self._target} was not started by a record")
        return Record.of(origin)

    @property
    def logger(self) -> logging.Logger:
        """A logger below "odradek", named after the handler, silent during replay; records carry `invocation_id`."""
        try:
            return self._logger
        except AttributeError:
            self._logger = ContextLogger(self._target, self._ops)
            return self._logger

    @property
    def random(self) -> Random:
        """Random numbers that are the same at every replay of this invocation."""
        seed = self._ops.seed  # not there while the handler waits
        try:
            return self._random
        except AttributeError:
            self._random = Random(seed())
            return self._random

    @overload
    def run(
        self,
        fn: Callable[[*Ts], object],
        /,
        *args: *Ts,
        returns: TypeForm[T],
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        idempotent: bool = False,
    ) -> Future[T]: ...

    @overload
    def run(
        self,
        fn: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        idempotent: bool = False,
    ) -> Future[R]: ...

    @overload
    def run(
        self,
        fn: Callable[[*Ts], R],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        idempotent: bool = False,
    ) -> Future[R]: ...

    def run(
        self,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        returns: Any = UNSET,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        idempotent: bool = False,
    ) -> Future[Any]:
        """Run a step: a function with side effects, at least once, whose recorded result is final.

        Args:
            fn: a function, in a thread if it is `def`, on the real event loop if it is `async def`.
            *args: its arguments.
            returns: the type of its result; needed where `fn` has no return annotation and JSON's own types do not do.
            name: its name in the journal; needed for a lambda, else the function's.
            retry: when a failed run is repeated; None = the step's own policy, else for ever.
            timeout: of one run, seconds or timedelta.
            idempotent: running it once too often is harmless: it may start at once, before what asks for it is durable.

        Raises:
            TypeError: a lambda without a name; no serde for the result's type.
            TerminalError: when awaited: raised by `fn`, or the retries are exhausted.

        Example::

            page = await ctx.run(fetch, url, timeout=10)
            size = await ctx.run(lambda: os.path.getsize(path), name="size", returns=int)
        """
        return self._ops.begin(step_body(fn, args, returns, name, retry, timeout, idempotent=idempotent))

    def compensate(self, fn: Callable[[*Ts], object], /, *args: *Ts) -> None:
        """Run `fn(*args)` as a step if the invocation ends in TerminalError or cancellation; the last one first."""
        self._later("ctx.compensate", "catch TerminalError, run what undoes the steps by ctx.run, last first, and raise it again")

    def sleep(self, delay: Seconds, /) -> Future[None]:
        """Wait durably: seconds or timedelta, from now. Raises ValueError when negative."""
        return self._ops.begin(Sleep(seconds("ctx.sleep: delay", delay)))

    def publish(
        self,
        topic: Topic[K, V],
        value: V | None,
        /,
        *,
        key: K | None = None,
        headers: Mapping[str, str | bytes] = _NO_HEADERS,
        partition: int | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Publish a record, in the same transaction as everything else that happens here.

        Args:
            topic: where to; its types encode value and key.
            value: None is a tombstone.
            key: None = no key.
            headers: text or bytes.
            partition: None = chosen by the key, as Java clients do.
            timestamp: with a time zone; None = when the broker gets it.

        Raises:
            TypeError: value or key is not what the topic carries, or would not come back as it is (a TerminalError, too).
            ValueError: the timestamp has no time zone.
            TerminalError: there is no such topic or partition, or the record is too large.

        Example::

            ctx.publish(invoices, invoice, key=ctx.key)
        """
        try:
            data = None if value is None else topic.quick(value)  # a tombstone has no bytes, also where the type admits None
            key_data = key.encode() if type(key) is str and topic.text_keys else None
        except Exception:  # noqa: BLE001  (whatever it is, `encode` or `encode_key` says it)
            if not isinstance(topic, Topic):  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
                raise Misuse(f"ctx.publish takes a topic, app.topic({topic!r}, value=…), not {topic!r}") from None
            data = key_data = None
        self._ops.publish(
            topic.name,
            key_data if key is None or key_data is not None else topic.encode_key(key),
            data if value is None or data is not None else topic.encode(value),
            encode_headers(f"topic {topic.name!r}", headers) if headers else None,
            partition,
            None if timestamp is None else unix_ms("ctx.publish: timestamp", timestamp),
        )

    def awakeable(self, type: TypeForm[T], /) -> Awakeable[T]:
        """Wait for a value from outside, which is given by whoever has the id of what this gives.

        Over HTTP, `POST /odradek/awakeables/{id}/resolve`, by `odradek resolve ID VALUE`, or by `ctx.resolve(id, value)` in a
        handler of any app. The first who gives one is heard, also before it is awaited. `type` is what the value must be.

        Example::

            paid = ctx.awakeable(Paid)
            await create_intent(order, paid.id)
            receipt = await paid
        """
        return self._ops.begin(AwakeableOf(serde_for("ctx.awakeable: type", type).load))

    def signal(self, name: Name[T], /) -> Future[T]:
        """Wait for a value sent to this invocation under a name."""
        self._later("ctx.signal", AWAITED)

    def now(self) -> datetime:
        """Give the time in UTC, the same at every replay."""
        return datetime.fromtimestamp(self._ops.now_ms() / 1000, UTC)

    def uuid(self) -> UUID:
        """Give a UUID, the same at every replay and another one at every call."""
        return UUID(bytes=self._ops.uuid_bytes(), version=4)

    def patched(self, name: str, /) -> bool:
        """Tell old journals from new ones where the code has changed: False while replaying one written before."""
        self._later("ctx.patched", "give the changed handler another name, and let the old one end what it has begun")

    def _later(self, what: str, instead: str) -> NoReturn:
        self._ops.refuse(f"{what} comes in a later release of odradek: until then, {instead}")

    def _attach_invocation(self, invocation_id: str, decode: Decode) -> Call[Any]:
        return self._ops.begin(AttachTo(decode, invocation_id))

    def _attach_workflow(self, workflow: str, key: bytes, decode: Decode) -> Call[Any]:
        return self._ops.begin(AttachTo(decode, target=f"{workflow}/run", key=key))

    def _attach_call(self, target: str, key: bytes | None, idempotency_key: str, decode: Decode) -> Call[Any]:
        return self._ops.begin(AttachTo(decode, target=target, key=key, idempotency_key=idempotency_key))

    def _complete(self, awakeable_id: str, value: bytes) -> None:
        self._ops.begin(ResolveOf(awakeable_id, value))

    def _cancel(self, invocation_id: str) -> None:
        self._ops.begin(CancelOf(invocation_id))

    def _fail(self, awakeable_id: str, message: str, code: int) -> None:
        self._ops.begin(ResolveOf(awakeable_id, b"", error_code("reject: code", code), message))

    def _call(self, target: Target, idempotency_key: str | None, headers: Mapping[str, str]) -> Call[Any]:
        return self._ops.begin(CallOf(target.name, target.key, target.payload, target.decode, idempotency_key, headers))

    def _send(
        self, target: Target, delay: Seconds | datetime | None, idempotency_key: str | None, headers: Mapping[str, str]
    ) -> str:
        at_ms = unix_ms("send: delay", delay) if isinstance(delay, datetime) else None
        delay_s = None if delay is None or isinstance(delay, datetime) else seconds("send: delay", delay)
        return self._ops.begin(SendOf(target.name, target.key, target.payload, delay_s, at_ms, idempotency_key, headers))


class SharedContext(Context):
    """What a shared handler of an object or workflow can do: also read its key's state.

    Example::

        @customer.shared
        async def total(ctx: SharedContext) -> int:
            return ctx.get(spent)
    """

    __slots__ = ()

    @property
    def key(self) -> str:
        """The object's key. Bytes that are not UTF-8 appear as surrogate escapes, and go back as they came."""
        try:
            return self._ops.key.decode()
        except UnicodeDecodeError:
            return decode_key(self._ops.key)

    @overload
    def get(self, state: State[T], /) -> T: ...

    @overload
    def get(self, name: str, type: TypeForm[T], /) -> T | None: ...

    @overload
    def get(self, name: str, type: TypeForm[T], default: T, /) -> T: ...

    def get(self, state: Any, type: Any = Any, default: Any = None, /) -> Any:
        """Give this key's value of a state name, or its default: at once, a fresh value each time.

        `state` is a declared State, or a name with the type to read it as (and a default, else None). Raises ValueError
        when what is stored is not of that type: the message says what was expected where.

        Example::

            ctx.get(spent)
            ctx.get("spent", int, 0)
        """
        if state.__class__ is not State:
            return self._get_named(state, type, default)
        raw = self._ops.read(state.name)
        if raw is None:
            return state.default()
        try:
            return state.decode(raw)
        except DECODE_ERRORS as error:
            raise self._unreadable(state.name, state.type, error) from error

    def _get_named(self, name: str, type: Any, default: Any) -> Any:
        decode = serde_for(f"ctx.get({name!r}): type", type).decode
        raw = self._ops.read(name)
        if raw is None:
            return default
        try:
            return decode(raw)
        except DECODE_ERRORS as error:
            raise self._unreadable(name, type, error) from error

    def _unreadable(self, name: str, type: Any, error: BaseException) -> ValueError:
        if isinstance(error, RefusedValue):  # the type has no serde
            return error
        why = explain(error, describe(type))
        return ValueError(f"state {name!r} of {self._target}, key {self.key!r}, is not {describe(type)}: {why}")

    def names(self) -> Sequence[str]:
        """Give the state names of this key that hold a value, sorted."""
        return self._ops.names()

    def promise(self, name: Name[T], /) -> Promise[T]:
        """Give a durable promise of this workflow's key, to await, peek at, resolve or reject: it is there as soon as it is named.

        Example::

            granted = await ctx.promise(decision)       # in run
            ctx.promise(decision).resolve(True)         # in a shared handler
        """
        return Promise(lambda: self._ops, name)


class ObjectContext(SharedContext):
    """What an exclusive handler of an object can do: also write its key's state. One runs at a time for each key.

    Example::

        @customer.on(orders)
        async def ordered(ctx: ObjectContext, order: Order) -> None:
            ctx.set(spent, ctx.get(spent) + order.amount)
    """

    __slots__ = ()

    @overload
    def set(self, state: State[T], value: T, /) -> None: ...

    @overload
    def set(self, name: str, value: object, /) -> None: ...

    def set(self, state: Any, value: Any, /) -> None:
        """Set this key's value of a state name, together with everything else that happens up to the next wait.

        Setting None deletes a State that has no default. Raises TypeError (a TerminalError, too: no retry mends it) for
        a value that is not of the State's type, or would not come back as it is; the message names the field.
        """
        if state.__class__ is not State:
            self._ops.write(state, encode_any(value, f"state {state!r}"))
        elif value.__class__ is state.bare_type:
            try:
                data = state.bare(value)
            except Exception:  # noqa: BLE001  (whatever it is, `encode` says it)
                data = state.encode(value)
            self._ops.write(state.name, data)
        elif value is None and state.deletes_none:
            self._ops.write(state.name, None)
        else:
            self._ops.write(state.name, state.encode(value))

    def clear(self, *names: State[Any] | str) -> None:
        """Delete these state names of this key; without names, all of them."""
        if not names:
            self._ops.clear()
        for name in names:
            self._ops.write(name.name if isinstance(name, State) else name, None)


class WorkflowContext(ObjectContext):
    """What the `run` of a workflow can do: as ObjectContext, once per key."""

    __slots__ = ()


operations: Callable[[Context], Operations] = attrgetter("_ops")
"""What a context asks, for the words that are not its methods (`@step`)."""


def let_ask(context: Context, ops: Operations) -> None:
    """The engine's hand on a context: what it asks from now on. Another thing while its handler waits."""
    context._ops = ops  # pyright: ignore[reportPrivateUsage]
