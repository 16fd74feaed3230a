"""Tests of an app without Kafka: declared, to come in a later release."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, overload

from odradek import App, Client, State, Topic
from odradek._errors import comes_later

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Fake(Generic[P, R]):
    """A step replaced by `TestApp.fake`. `calls` holds the arguments of each run, positional and by name."""

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def fails(self, *errors: BaseException) -> Self:
        """Let the next runs raise these errors, one each."""
        comes_later("Fake.fails")


class TestApp(Client):
    """The real engine on an in-memory log and a virtual clock. Waiting for a result skips time; nothing else does.

    `crash="everywhere"` crashes it at every effect. Making one raises ComesLater (a RuntimeError) in this release.
    """

    __test__ = False

    def __init__(
        self,
        app: App,
        *,
        now: datetime | None = None,
        crash: Literal["never", "everywhere"] = "never",
        seed: int = 0,
    ) -> None:
        comes_later("odradek.testing.TestApp")

    def now(self) -> datetime:
        """Give the virtual time."""
        comes_later("TestApp.now")

    async def advance(self, by: timedelta | float) -> None:
        """Let time pass, timedelta or seconds, and run what becomes due."""
        comes_later("TestApp.advance")

    async def settle(self) -> None:
        """Run until nothing is left to do now."""
        comes_later("TestApp.settle")

    def fake(self, step: Callable[P, Coroutine[Any, Any, R]], by: Callable[P, R] | R) -> Fake[P, R]:
        """Replace a step by a function, or by its result."""
        comes_later("TestApp.fake")

    def publish(self, topic: Topic[K, V], value: V | bytes | None, *, key: K | None = None) -> None:
        """Publish a record; bytes go as they are."""
        comes_later("TestApp.publish")

    @overload
    def published(self, topic: Topic[Any, V]) -> list[V]: ...

    @overload
    def published(self, topic: str) -> list[bytes]: ...

    def published(self, topic: Any) -> list[Any]:
        """Give what was published to a topic, decoded; raw when the topic is given by name."""
        comes_later("TestApp.published")

    def state(self, of: object, key: str, name: State[T]) -> T:
        """Give a state of an object."""
        comes_later("TestApp.state")
