"""Services, virtual objects and workflows: the decorators that turn functions into handlers and subscriptions.

Every decorator returns the function as it was, so that it stays callable and typed; what was registered is found on the
service (`registered`, `subscribed`) and through the function (`callee_of`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from odradek._callee import Mode, attach
from odradek._context import Context, ObjectContext, SharedContext, WorkflowContext
from odradek._definition import Handler, HandlerOptions, OnError, Options, StartAt, Subscription
from odradek._topic import Topic

if TYPE_CHECKING:
    from odradek._errors import Seconds
    from odradek._retry import RetryPolicy

R = TypeVar("R")
A = TypeVar("A")
K = TypeVar("K")
V = TypeVar("V")
C = TypeVar("C", bound=Context)
AnyFn = TypeVar("AnyFn", bound=Callable[..., Coroutine[Any, Any, Any]])

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
"""Of an app, a service or a handler."""


class On(Protocol[C, V]):
    """The decorator that `.on(topic)` gives: takes handlers of the topic's values only."""

    def __call__(self, fn: Callable[[C, V], Coroutine[Any, Any, R]], /) -> Callable[[C, V], Coroutine[Any, Any, R]]: ...


class Base:
    """A named group of handlers."""

    name: str
    registered: dict[str, Handler]
    """By name."""
    subscribed: list[Subscription]
    shared_take_records = False
    """Records may start its shared handlers."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = check_name(type(self).__name__, name)
        if name == "odradek":
            raise ValueError(f"{type(self).__name__} 'odradek': the name is taken by odradek's own HTTP paths")
        self.registered = {}
        self.subscribed = []
        self._options = options

    def _add(self, fn: Any, mode: Mode, kind: type[Context], options: HandlerOptions) -> Handler:
        name = str(options.get("name") or getattr(fn, "__name__", ""))
        check_name(f"handler of {self.name}", name)
        known = self.registered.get(name)
        implied = next((handler for handler in self.registered.values() if handler.fn is fn and handler.implied), None)
        if implied is not None and implied.mode == mode and known in (None, implied):
            return self._declare(implied, name, options)
        if known is not None:
            raise ValueError(f"{self.name}/{name}: there is already a handler of this name; give one of them another (name=)")
        handler = Handler(self.name, name, fn, mode, kind, {**self._options, **options})
        attach(fn, handler)
        self.registered[name] = handler
        return handler

    def _declare(self, handler: Handler, name: str, options: HandlerOptions) -> Handler:
        """Take the options of a function that `.on`, further down, has made a handler of already."""
        del self.registered[handler.name]
        handler.declare(name, {**self._options, **options})
        self.registered[name] = handler
        return handler

    def _subscribe(
        self,
        fn: Any,
        topic: Topic[Any, Any],
        kind: type[Context],
        key: Callable[[Any], str] | None,
        dead_letter: Topic[Any, Any] | str | None,
        on_error: OnError,
        start: StartAt,
        retry: RetryPolicy | None,
    ) -> None:
        if not isinstance(topic, Topic):  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
            raise TypeError(f"{self.name}: .on takes a topic, app.topic({topic!r}, value=…), not {topic!r}")
        known = [handler for handler in self.registered.values() if handler.fn is fn]
        mode: Mode = "plain" if kind is Context else "exclusive"
        handler = known[0] if known else self._add(fn, mode, kind, {})
        handler.implied = handler.implied or not known
        if handler.mode == "shared" and not self.shared_take_records:
            raise TypeError(f"{handler.target} on {topic.name}: a shared handler cannot take records, since they change state")
        if any(s.handler is handler and s.topic.name == topic.name for s in self.subscribed):
            raise ValueError(f"{handler.target} is subscribed to {topic.name} twice")
        letters = dead_letter.name if isinstance(dead_letter, Topic) else dead_letter
        if letters is not None:
            Topic(letters, bytes, bytes)  # raises for a name that Kafka would not take
        self.subscribed.append(
            Subscription(topic, handler, key=key, dead_letter=letters, on_error=on_error, start_at=start, retry=retry)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Service(Base):
    """A group of handlers without keys: any number of them run at once. Made by `App.service`, or included.

    Raises ValueError when the name is not made of ASCII letters, digits, '_', '.' and '-', or is "odradek".

    >>> mails = Service("mails")
    >>> @mails.handler
    ... async def welcome(ctx: Context, user: str) -> str:
    ...     return f"hello {user}"
    >>> sorted(mails.registered)
    ['welcome']
    """

    def __init__(self, name: str, **options: Unpack[Options]) -> None:
        super().__init__(name, options)

    @overload
    def handler(self, fn: AnyFn, /) -> AnyFn: ...

    @overload
    def handler(self, /, **options: Unpack[HandlerOptions]) -> Callable[[AnyFn], AnyFn]: ...

    def handler(self, fn: Any = None, /, **options: Unpack[HandlerOptions]) -> Any:
        """Register a handler: `async def f(ctx: Context)` or with one argument more, called over HTTP and by handlers.

        Options override the service's: `name`, `public`, `retry`, `on_exhausted`, `timeout`, `concurrency`,
        `idempotency_retention`, `journal_retention`. Raises TypeError for a function of another shape or a type without
        a serde, ValueError for a name that is taken or an option out of range.
        """

        def register(fn: Any) -> Any:
            self._add(fn, "plain", Context, options)
            return fn

        return register if fn is None else register(fn)

    def on(
        self,
        topic: Topic[K, V],
        /,
        *,
        retry: RetryPolicy | None = None,
        dead_letter: Topic[Any, Any] | str | None = None,
        on_error: OnError = "dead_letter",
        start: StartAt = "earliest",
    ) -> On[Context, V]:
        """Start the handler for each record of a topic; it is also a handler by name.

        Args:
            topic: what to read.
            retry: how a failed attempt on one of its records is repeated; None = as the handler says, else for 24 hours.
            dead_letter: where records go that cannot be processed; None = `<app>.dead-letters`.
            on_error: dead_letter, pause the partition, or skip the record.
            start: where a subscription that is new begins: earliest, latest, or a datetime with a time zone.
        """

        def register(fn: Any) -> Any:
            self._subscribe(fn, topic, Context, None, dead_letter, on_error, start, retry)
            return fn

        return register


class Object(Base):
    """Handlers with state per key: for each key one exclusive handler runs at a time, shared ones beside it.

    Raises ValueError as Service does.

    >>> customer = Object("customer")
    >>> @customer.handler
    ... async def rename(ctx: ObjectContext, name: str) -> None:
    ...     ctx.set("name", name)
    >>> @customer.shared
    ... async def name(ctx: SharedContext) -> str | None:
    ...     return ctx.get("name", str)
    >>> [(h.name, h.mode) for h in customer.registered.values()]
    [('rename', 'exclusive'), ('name', 'shared')]
    """

    def __init__(self, name: str, **options: Unpack[Options]) -> None:
        super().__init__(name, options)

    @overload
    def handler(self, fn: AnyFn, /) -> AnyFn: ...

    @overload
    def handler(self, /, **options: Unpack[HandlerOptions]) -> Callable[[AnyFn], AnyFn]: ...

    def handler(self, fn: Any = None, /, **options: Unpack[HandlerOptions]) -> Any:
        """Register an exclusive handler, `async def f(ctx: ObjectContext)` or with one argument; as Service.handler."""

        def register(fn: Any) -> Any:
            self._add_exclusive(fn, options)
            return fn

        return register if fn is None else register(fn)

    def _add_exclusive(self, fn: Any, options: HandlerOptions) -> Handler:
        return self._add(fn, "exclusive", ObjectContext, options)

    @overload
    def shared(
        self, fn: Callable[[SharedContext], Coroutine[Any, Any, R]], /
    ) -> Callable[[SharedContext], Coroutine[Any, Any, R]]: ...

    @overload
    def shared(
        self, fn: Callable[[SharedContext, A], Coroutine[Any, Any, R]], /
    ) -> Callable[[SharedContext, A], Coroutine[Any, Any, R]]: ...

    def shared(self, fn: Any, /) -> Any:
        """Register a handler that only reads, `async def f(ctx: SharedContext)` or with one argument."""
        self._add(fn, "shared", SharedContext, {})
        return fn

    def on(
        self,
        topic: Topic[K, V],
        /,
        *,
        key: Callable[[V], str] | None = None,
        retry: RetryPolicy | None = None,
        dead_letter: Topic[Any, Any] | str | None = None,
        on_error: OnError = "dead_letter",
        start: StartAt = "earliest",
    ) -> On[ObjectContext, V]:
        """Start the handler for each record of a topic, one at a time for each key; as Service.on.

        The object's key is the record's; `key` makes another one of the value.
        """

        def register(fn: Any) -> Any:
            self._subscribe(fn, topic, ObjectContext, key, dead_letter, on_error, start, retry)
            return fn

        return register


class Workflow(Object):
    """An object whose `run` executes once per key; its other handlers are shared: they query it and signal it by promises.

    Who starts it again gets the first one's id and result. `retention` (an option, one day by default) says how long its state, its
    promises and its result are kept after `run` has ended; then all of it is gone. Raises ValueError as Service does.

    >>> from odradek import Name
    >>> approval = Workflow("approval")
    >>> @approval.run
    ... async def approve(ctx: WorkflowContext, amount: int) -> bool:
    ...     return await ctx.promise(Name("decision", bool))
    >>> @approval.shared
    ... async def decide(ctx: SharedContext, ok: bool) -> None:
    ...     ctx.promise(Name("decision", bool)).resolve(ok)
    >>> [(h.name, h.mode) for h in approval.registered.values()]
    [('run', 'run'), ('decide', 'shared')]
    """

    shared_take_records = True

    @overload
    def run(self, fn: AnyFn, /) -> AnyFn: ...

    @overload
    def run(self, /, *, retry: RetryPolicy | None = None, timeout: Seconds | None = None) -> Callable[[AnyFn], AnyFn]: ...

    def run(self, fn: Any = None, /, *, retry: RetryPolicy | None = None, timeout: Seconds | None = None) -> Any:
        """Register what it does: `async def f(ctx: WorkflowContext)`, or with one argument; "run" on the wire."""

        def register(fn: Any) -> Any:
            options: HandlerOptions = {"name": "run"}
            if retry is not None:
                options["retry"] = retry
            if timeout is not None:
                options["timeout"] = timeout
            self._add(fn, "run", WorkflowContext, options)
            return fn

        return register if fn is None else register(fn)

    def _add(self, fn: Any, mode: Mode, kind: type[Context], options: HandlerOptions) -> Handler:
        if mode == "exclusive":  # handlers of a workflow other than run are shared
            mode, kind = "shared", SharedContext
        return super()._add(fn, mode, kind, options)

    def on(  # type: ignore[override]
        self,
        topic: Topic[K, V],
        /,
        *,
        key: Callable[[V], str] | None = None,
        retry: RetryPolicy | None = None,
        dead_letter: Topic[Any, Any] | str | None = None,
        on_error: OnError = "dead_letter",
        start: StartAt = "earliest",
    ) -> On[WorkflowContext, V]:
        """Start `run`, or a shared handler, for each record of a topic; stands above `@….run` or `@….shared`. As Object.on.

        A record whose key has a workflow already does not start another.
        """

        def register(fn: Any) -> Any:
            if all(handler.fn is not fn for handler in self.registered.values()):
                raise TypeError(f"{self.name} on {topic.name}: write .on above @{self.name}.run or @{self.name}.shared")
            self._subscribe(fn, topic, WorkflowContext, key, dead_letter, on_error, start, retry)
            return fn

        return register


def check_name(what: str, name: str) -> str:
    """Give `name` back; raises ValueError when it cannot stand in a URL and a topic name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r}: a name is 1 to 200 ASCII letters, digits, '_', '.' or '-', the first no '.' or '-'")
    return name
