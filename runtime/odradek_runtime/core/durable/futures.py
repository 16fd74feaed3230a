"""Tasks and futures of one invocation, known by number: asyncio keeps them in sets, whose order no replay may change."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextvars import Context
from typing import Any, TypeVar, cast

T = TypeVar("T")


class DurableFuture(asyncio.Future[T]):
    """What `loop.create_future()` gives in a handler. `owner`: the number of its invocation's turns."""

    __slots__ = ("owner", "seq")

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: int, seq: int) -> None:
        super().__init__(loop=loop)
        self.owner = owner
        self.seq = seq

    def __hash__(self) -> int:
        return self.seq


class DurableTask(asyncio.Task[T]):
    """What `create_task` gives in a handler. `owner`: the number of its invocation's turns."""

    __slots__ = ("owner", "seq")

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, owner: int, seq: int, name: str | None,
        context: Context | None,
    ) -> None:  # fmt: skip
        self.owner = owner
        self.seq = seq
        named = f"Task-{seq}" if name is None else name  # asyncio would count over all invocations
        super().__init__(coroutine, loop=loop, name=named, context=context)
        self._log_destroy_pending = False
        # Among all tasks of the thread its number is a thousand others', too: the set that asyncio keeps would be a list.
        asyncio.tasks._unregister_task(self)

    def __hash__(self) -> int:
        return self.seq


class InOrder(set[T]):
    """A set that is gone through in the order in which it was filled.

    asyncio makes sets of what it is given, bare coroutines and futures of its own making among them. Those hash by address: the
    order in which `as_completed` begins them, or in which `wait` gives them, would be another at each replay.
    """

    def __init__(self, items: Any = ()) -> None:
        self._order: dict[T, None] = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[T]:
        return iter(self._order)

    def add(self, item: T, /) -> None:
        super().add(item)
        self._order[item] = None

    def discard(self, item: object, /) -> None:
        super().discard(item)
        self._order.pop(cast("T", item), None)

    def remove(self, item: T, /) -> None:
        super().remove(item)
        del self._order[item]

    def pop(self) -> T:
        """The first."""
        item = next(iter(self._order), None)
        if item is None:
            raise KeyError("pop from an empty set")
        self.remove(item)
        return item

    def clear(self) -> None:
        super().clear()
        self._order.clear()


def set_in_order(items: Any = ()) -> set[Any]:
    """What `set` means in asyncio's module of tasks: where a handler runs, one that keeps its order."""
    return InOrder(items) if hasattr(asyncio._get_running_loop(), "turns") else set(items)


def keep_asyncio_in_order() -> None:
    """Have asyncio's functions on tasks make their sets by `set_in_order`."""
    asyncio.tasks.__dict__["set"] = set_in_order
