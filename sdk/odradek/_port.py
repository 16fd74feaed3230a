"""What a context asks of the engine: the one boundary between the public API and the runtime.

The API turns Python values into bytes and back; the engine behind `Operations` sees bytes alone. An engine hands its
`Operations` to `Handler.start`, which builds the context and the coroutine (see `_definition`). Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Protocol, TypeVar

from ._future import Awakeable, Call, Future

if TYPE_CHECKING:
    from ._retry import RetryPolicy

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Origin:
    """The record that started an invocation (`ctx.record` is built from it); `timestamp_ms` is Unix time.

    `replay`: the id of what delivered it again, and behind an @ which of several copies; empty when it was read for the first time.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    replay: str = ""

    @property
    def replay_id(self) -> str:
        """The id alone."""
        return self.replay.partition("@")[0]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Asked(Generic[T_co]):
    """Something that a handler asks for and that is recorded; `T_co` is what it is given at once. `word`: what it has written."""

    __slots__ = ()
    word: ClassVar[str]


@dataclass(slots=True)  # a frozen one takes three times as long to make
class StepBody(Asked[Future[Any]]):
    """A step ready to run outside the engine: `run()` gives the value, or an awaitable of it when `is_async`.

    A synchronous body runs in a thread (if what it gives turns out to be awaitable, that is awaited on the loop), an
    asynchronous one on the real event loop; `encode` turns the value into the
    bytes that are recorded, `decode` those bytes into what the handler sees, also on the first run.
    """

    name: str
    run: Callable[[], Any | Awaitable[Any]]
    is_async: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    retry: RetryPolicy | None
    timeout_s: float | None
    idempotent: bool = False
    """Running it once too often is harmless: it may start before what has asked for it is durable."""
    word: ClassVar[str] = "run"


@dataclass(frozen=True, slots=True)
class Sleep(Asked[Future[None]]):
    """A durable timer: from now, or at the Unix time `at_ms`."""

    delay_s: float
    at_ms: float | None = None
    word: ClassVar[str] = "sleep"


@dataclass(frozen=True, slots=True)
class CallOf(Asked[Call[Any]]):
    """The handler `target` ("service/handler", or "app/service/handler") is started, and its result awaited."""

    target: str
    key: bytes | None
    payload: bytes
    decode: Callable[[bytes], Any]
    idempotency_key: str | None
    headers: Mapping[str, str]
    word: ClassVar[str] = "call"


@dataclass(frozen=True, slots=True)
class SendOf(Asked[str]):
    """The handler `target` is started one-way, after `delay_s` or at the Unix time `at_ms`; given is the invocation id."""

    target: str
    key: bytes | None
    payload: bytes
    delay_s: float | None
    at_ms: int | None
    idempotency_key: str | None
    headers: Mapping[str, str]
    word: ClassVar[str] = "send"


@dataclass(frozen=True, slots=True)
class AwakeableOf(Asked[Awakeable[Any]]):
    """A value is awaited that whoever has its id gives, from wherever."""

    decode: Callable[[bytes], Any]
    word: ClassVar[str] = "awakeable"


@dataclass(frozen=True, slots=True)
class ResolveOf(Asked[None]):
    """The awakeable of this id, of this app or of another, is given a value, or if `code` is not 0 an error of that code."""

    awakeable_id: str
    value: bytes
    code: int = 0
    message: str = ""
    word: ClassVar[str] = "resolve"


@dataclass(frozen=True, slots=True)
class AttachTo(Asked[Call[Any]]):
    """The result of an invocation is awaited: by its id, or as what `target` was asked for, by its key or an idempotency key."""

    decode: Callable[[bytes], Any]
    invocation_id: str = ""
    target: str = ""
    key: bytes | None = None
    idempotency_key: str | None = None
    word: ClassVar[str] = "attach"


@dataclass(frozen=True, slots=True)
class PromiseAwaited(Asked[Future[Any]]):
    """What this promise of the workflow's key is given."""

    name: str
    decode: Callable[[bytes], Any]
    word: ClassVar[str] = "promise"


@dataclass(frozen=True, slots=True)
class PromisePeeked(Asked["bytes | None"]):
    """What it was given, if it was given anything yet."""

    name: str
    word: ClassVar[str] = "promise"


@dataclass(frozen=True, slots=True)
class PromiseGiven(Asked[bool]):
    """It is given a value, or if `code` is not 0 an error of that code. Given is whether it was the first."""

    name: str
    value: bytes
    code: int = 0
    message: str = ""
    word: ClassVar[str] = "promise"


@dataclass(frozen=True, slots=True)
class CancelOf(Asked[None]):
    """The invocation of this id, of this app, is told to end."""

    invocation_id: str
    word: ClassVar[str] = "cancel"


class Operations(Protocol):
    """One invocation as its context sees it. Methods may raise `odradek.TerminalError` for a misuse no retry mends."""

    @property
    def id(self) -> str:
        """The invocation id."""
        ...

    @property
    def key(self) -> bytes:
        """The object key; b"" for a service."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the call (or of the record, those that are text), lower-case names."""
        ...

    @property
    def origin(self) -> Origin | None:
        """The record that started this invocation, if one did."""
        ...

    @property
    def replaying(self) -> bool:
        """True while the coroutine repeats what the journal already holds (the logger is silent then)."""
        ...

    def refuse(self, message: str) -> NoReturn:
        """End the invocation at once: the handler has used what does not work there. Raises `odradek._errors.Refused`."""
        ...

    def read(self, name: str) -> bytes | None:
        """The stored bytes of one state name of this key."""
        ...

    def write(self, name: str, value: bytes | None) -> None:
        """Set (or with None delete) one state name of this key."""
        ...

    def clear(self) -> None:
        """Delete every state name of this key."""
        ...

    def names(self) -> Sequence[str]:
        """The state names of this key that hold a value, sorted."""
        ...

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> None:
        """Add one record to the epoch. Topic, partition, size, time and key are checked here."""
        ...

    def begin(self, asked: Asked[T]) -> T:
        """Journal what is asked for; it begins when what the handler has done so far is part of an epoch."""
        ...

    def now_ms(self) -> float:
        """The journaled time, Unix milliseconds."""
        ...

    def seed(self) -> int:
        """The seed of `ctx.random`: the same at every replay."""
        ...

    def uuid_bytes(self) -> bytes:
        """16 bytes that are the same at every replay and different at every call."""
        ...
