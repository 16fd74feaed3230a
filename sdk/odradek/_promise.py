"""Durable promises: named results of a workflow, which its `run` awaits and its other handlers give, or the other way round."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from odradek._bad_input import BadInput
from odradek._errors import TerminalError, error_code
from odradek._port import PromiseAwaited, PromiseGiven, PromisePeeked
from odradek._serde import serde_for

if TYPE_CHECKING:
    from odradek._port import Operations
    from odradek._state import Name

T = TypeVar("T")


class Promise(Generic[T]):
    """A durable promise of one key of a workflow. Every handler of the key that names it means the same one.

    It is awaited, peeked at, resolved and rejected, before and after one another in any order; what it is given first is final.
    Made by `ctx.promise(name)`, which does nothing yet: each word asks when it is used.
    """

    __slots__ = ("_name", "_ops", "_type")

    def __init__(self, ops: Callable[[], Operations], name: Name[T]) -> None:
        self._ops = ops
        self._name = name.name
        self._type = name.type

    def __await__(self) -> Generator[Any, None, T]:
        """Wait until it is given something. Raises TerminalError when it was rejected."""
        value: T = yield from self._ops().begin(PromiseAwaited(self._name, self._decode)).__await__()
        return value

    def peek(self) -> T | None:
        """Give the value if it is there, without waiting; None if it is not. Raises TerminalError when it was rejected."""
        raw = self._ops().begin(PromisePeeked(self._name))
        value: T | None = None if raw is None else self._decode(raw)
        return value

    def resolve(self, value: T) -> bool:
        """Complete it; False if it was complete already."""
        return self._ops().begin(PromiseGiven(self._name, self._serde().guard(f"promise {self._name!r}")(value)))

    def reject(self, message: str, *, code: int = 500) -> bool:
        """Fail it with TerminalError(message, code=code); False if it was complete already."""
        return self._ops().begin(PromiseGiven(self._name, b"", error_code("promise: code", code), message))

    def _serde(self) -> Any:
        return serde_for(f"promise {self._name!r}", self._type)

    def _decode(self, raw: bytes) -> Any:
        try:
            return self._serde().load(raw)
        except BadInput as error:
            raise TerminalError(f"promise {self._name!r} holds something else than its type: {error}") from error

    def __repr__(self) -> str:
        return f"Promise({self._name!r})"
