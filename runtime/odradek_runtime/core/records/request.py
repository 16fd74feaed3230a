"""Requests from outside the log: what the ingress asks of the engine, and what it is told once the cause is durable.

A request is posted to the worker that owns its shard and enters the next epoch; its `Reply` leaves after that epoch (or
the one in which the invocation ends) has been committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from odradek import TerminalError

TEXT_CHARACTERS = 16_384
METADATA_BYTES = 65_536


def plain_text(value: object) -> str:
    """`str(value)`, cut at TEXT_CHARACTERS, with what UTF-8 cannot hold replaced.

    >>> plain_text("caf" + chr(0xDCE9))
    'caf?'
    """
    try:
        text = str(value)
    except BaseException:  # noqa: BLE001  (a user's `__str__`; the type says enough)
        text = f"<{type(value).__name__}>"
    return text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Failure:
    """How an invocation failed: an HTTP-like code, what happened, and the error's own metadata.

    The texts are users': they are made what a journal can hold (UTF-8, of bounded length), whatever they were. Of the metadata
    what is beyond METADATA_BYTES is dropped.
    """

    code: int
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain_text(self.message))
        if self.metadata:
            kept: dict[str, str] = {}
            room = METADATA_BYTES
            for name, text in self.metadata.items():
                key, value = plain_text(name), plain_text(text)
                room -= len(key.encode()) + len(value.encode())
                if room < 0:
                    break
                kept[key] = value
            object.__setattr__(self, "metadata", kept)

    @property
    def held_bytes(self) -> int:
        """What its texts take."""
        return len(self.message.encode()) + sum(len(k.encode()) + len(v.encode()) + 8 for k, v in self.metadata.items())


def failure_of(error: TerminalError) -> Failure:
    """What a TerminalError says, also one of a derived class that has set something else, or nothing.

    >>> class Gone(TerminalError):
    ...     def __init__(self): self.metadata = "none"
    >>> failure_of(Gone())
    Failure(code=500, message='Gone', metadata={})
    """
    code: Any = getattr(error, "code", None)
    metadata: object = getattr(error, "metadata", None)
    message: Any = getattr(error, "message", None)
    fits = isinstance(code, int) and 400 <= code <= 599
    texts = cast("dict[str, str]", metadata) if isinstance(metadata, dict) else {}
    return Failure(int(code) if fits else 500, (plain_text(error) or type(error).__name__) if message is None else message, texts)


@dataclass(frozen=True, slots=True)
class Invoke:
    """Start a handler.

    `invocation_id` carries the routing hash and is chosen before the engine sees it, so that the same request sent twice (a
    retry, a move to another worker) is the same invocation. `wait`: reply with the result; else as soon as it is durable.
    `at_ms`: Unix milliseconds before which it does not start; 0 = now.
    """

    invocation_id: str
    target: str
    key: bytes
    payload: bytes
    headers: Mapping[str, str]
    wait: bool
    idempotent: bool = False
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Attach:
    """A client waits for (`wait`), or looks at, an invocation of a public handler."""

    invocation_id: str
    wait: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """An awakeable, entry `ref` of an invocation, is given a value or an error. `seal`: of its id."""

    invocation_id: str
    ref: int
    seal: bytes
    payload: bytes | None
    failure: Failure | None = None
    wait: bool = False


Request = Invoke | Attach | Settle


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request.

    accepted / previously_accepted: durable, one-way. completed: `value` holds the result's bytes. failed: `failure` says why.
    running: an `Attach(wait=False)` to one that has not ended. not_found: no such invocation, or its handler is not public.
    refused: it is too large to be kept, so there is none; `failure` says why. other_body: the idempotency key has started this
    invocation with another body.
    settled: the awakeable has its value; settled_before: it had one; nobody_waits: there is no such awakeable, or no longer.
    moved: the shard is not (any longer) this worker's, ask its owner again with the same invocation id; `doubtful` then says that
    the request may have been taken into an epoch that committed.
    """

    status: Literal[
        "accepted", "previously_accepted", "completed", "failed", "running", "not_found", "other_body", "refused", "moved",
        "settled", "settled_before", "nobody_waits",
    ]  # fmt: skip
    invocation_id: str
    value: bytes = b""
    failure: Failure | None = None
    doubtful: bool = False


Answer = Callable[[Reply], None]
"""Called once, in the engine's thread, with the reply; must only hand it over (e.g. loop.call_soon_threadsafe)."""


def unheard() -> None:
    """For those who need not know when an invocation is accepted."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request on its way to the engine, with where the answer goes."""

    request: Request
    answer: Answer
    accepted: Callable[[], None] = unheard
    """Called in the engine's thread, at most once and before the answer, when the invocation is durable and not yet ended."""


class Pending:
    """A question that the engine has taken and not answered; called with the reply, it answers, once."""

    __slots__ = ("_answer", "_answered", "_forget", "_tell", "entered", "exists", "request")

    def __init__(self, question: Question, forget: Callable[[Pending], None]) -> None:
        self.request = question.request
        self.entered = False
        """It is or was in an epoch, whose outcome decides whether its invocation exists."""
        self.exists = False
        """Its invocation is durable."""
        self._answer = question.answer
        self._tell = question.accepted
        self._forget = forget
        self._answered = False

    def __call__(self, reply: Reply) -> None:
        if not self._answered:
            self._answered = True
            self._forget(self)
            self._answer(reply)

    def accept(self) -> None:
        """The epoch that it was found in is durable: whoever waits is told that the invocation exists."""
        if not self._answered and not self.exists:
            self.exists = True
            self._tell()

    def turn_away(self) -> None:
        """Its shard is not here any longer."""
        doubtful = self.entered and not self.exists
        self(Reply("moved", self.request.invocation_id, doubtful=doubtful))
