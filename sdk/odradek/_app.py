"""An app: one deployable, with everything that a worker of it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from typing_extensions import TypeForm

from odradek._definition import Options
from odradek._service import Base, Object, Service, Workflow
from odradek._topic import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from odradek._definition import Handler, Subscription

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S", bound=Base)


class App(Service):
    """One deployable, and its own default service. Its name is the consumer group and prefixes its internal topics.

    Args:
        name: ASCII letters, digits, '_', '.' and '-'.
        include: services and objects from elsewhere, as they are or as "module:attribute".
        lifespan: an async context manager that a worker holds open while it runs, `lifespan(app)`.
        shards: how many shards there are; None = the largest partition count among the inputs, else 8. It cannot be
            changed once the app has run.

    Raises:
        ValueError: a name or `shards` is out of range.

    >>> app = App("shop")
    >>> orders = app.topic("orders", value=dict[str, int])
    >>> customer = app.object("customer")
    >>> @customer.on(orders)
    ... async def ordered(ctx, order):
    ...     ctx.set("last", order)
    >>> list(app.handlers()), app.subscriptions()
    (['customer/ordered'], [Subscription('orders', 'customer/ordered')])
    """

    shards: int | None
    lifespan: Callable[[App], AbstractAsyncContextManager[None]] | None

    def __init__(
        self,
        name: str,
        *,
        include: Sequence[Service | Object | str] = (),
        lifespan: Callable[[App], AbstractAsyncContextManager[None]] | None = None,
        shards: int | None = None,
    ) -> None:
        super().__init__(name)
        if shards is not None and (type(shards) is not int or shards < 1):
            raise ValueError(f"App {name!r}: shards must be an int, 1 or more, or None, not {shards!r}")
        self.shards = shards
        self.lifespan = lifespan
        self._included: list[Base | str] = [self, *include]
        self._declared: set[str] = set()

    @overload
    def topic(self, name: str, /) -> Topic[str, bytes]: ...

    @overload
    def topic(self, name: str, /, *, value: TypeForm[V]) -> Topic[str, V]: ...

    @overload
    def topic(self, name: str, /, *, key: TypeForm[K], value: TypeForm[V]) -> Topic[K, V]: ...

    def topic(self, name: str, /, *, key: Any = str, value: Any = bytes) -> Topic[Any, Any]:
        """Declare a topic, to read (`.on`) or to write (`ctx.publish`); Kafka must have it.

        Types choose the serde: bytes are raw, str is UTF-8, everything else JSON. Keys are text (bytes raw). A value
        type that admits None takes tombstones. Raises ValueError when Kafka would not take the name.

        >>> App("shop").topic("orders", value=dict[str, int])
        Topic('orders')
        """
        topic: Topic[Any, Any] = Topic(name, key, value)
        self._declared.add(name)
        return topic

    def service(self, name: str) -> Service:
        """Make a service of this app. Raises ValueError for a bad name or one that is taken."""
        return self._include(Service(name))

    def object(self, name: str) -> Object:
        """Make a virtual object of this app. Raises ValueError for a bad name or one that is taken."""
        return self._include(Object(name))

    def workflow(self, name: str, **options: Unpack[Options]) -> Workflow:
        """Make a workflow of this app; `options` as those of Workflow. Raises ValueError for a bad name or one that is taken."""
        return self._include(Workflow(name, **options))

    def handlers(self) -> Mapping[str, Handler]:
        """Give every handler by its target, "service/handler", those of included services among them.

        For the engine, which calls it once at start: the type hints that decoration had to leave open are resolved
        here. Raises TypeError for a hint without a serde or an `include` that is not a service, ValueError for two
        services of one name, ImportError or AttributeError for an `include` that is not there.
        """
        found = {handler.target: handler for service in self._services() for handler in service.registered.values()}
        for handler in found.values():
            handler.resolve()
        return found

    def subscriptions(self) -> list[Subscription]:
        """Give every subscription. Raises as `handlers` does."""
        found = [subscription for service in self._services() for subscription in service.subscribed]
        for subscription in found:
            subscription.resolve()
        return found

    def topic_names(self) -> list[str]:
        """Give the names of the topics that the app declares, and of those that its services read, sorted. Raises as `handlers`."""
        return sorted(self._declared | {subscription.topic.name for subscription in self.subscriptions()})

    def _services(self) -> Iterator[Base]:
        names: set[str] = set()
        for given in self._included:
            service = _load(given) if isinstance(given, str) else given
            if service.name in names:
                raise ValueError(f"App {self.name!r}: two services are named {service.name!r}")
            names.add(service.name)
            yield service

    def _include(self, service: S) -> S:
        if any(not isinstance(known, str) and known.name == service.name for known in self._included):
            raise ValueError(f"App {self.name!r}: there is already a service named {service.name!r}")
        self._included.append(service)
        return service


def _load(path: str) -> Base:
    module, colon, attribute = path.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"include={path!r}: write 'module:attribute'")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, App) or not isinstance(found, Base):
        raise TypeError(f"include={path!r}: not a Service, Object or Workflow but {found!r}")
    return found
