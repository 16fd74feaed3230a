"""What a kind of operation is: the interface of the files beside this one, and the verbs that they have on the epoch.

A kind imports leaves and this file, never another kind. Its only hand on the epoch is `Effects`; its timer can be told from its
entry in the journal alone, for an invocation may end before its replay has come to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol

from odradek import TerminalError
from odradek._definition import Handler
from odradek._future import Future
from odradek_runtime.core.addressing import Callee
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.records.formats import Command, Entry, Timer
from odradek_runtime.core.scope import Scope


class Noted(NamedTuple):
    """An operation's entry in the journal: `fresh` where it was made now, not found there by a replay."""

    ref: int
    at_ms: float
    fresh: bool
    value: bytes | None = None
    """What is recorded with it."""


@dataclass(slots=True)
class Open:
    """One operation of a live invocation that has begun and not ended.

    `what` is the kind's own; `future` is what the handler awaits, if it can; `decode` makes of a result's bytes what that gives.
    """

    kind: Kind
    ref: int
    what: Any
    future: Future[Any] | None = None
    decode: Callable[[bytes], Any] | None = None
    timer: bytes | None = None
    """The key of the timer that brings it back after a crash, or that ends it, if it is set."""
    row: bytes | None = None
    """The key of the row in the journal that says that it waits, if it has one: that goes when its invocation ends."""
    run: StepRun | None = None
    """What runs outside for it, once that has been asked for."""


class Asker(Protocol):
    """The invocation whose handler asks, as a kind sees it."""

    closed: bool
    """Its coroutine is being thrown away: what it asks for does not happen."""
    handler: Handler
    key: bytes
    base: bytes
    """What the keys of its object's state begin with."""
    scope: Scope

    @property
    def id(self) -> str: ...

    @property
    def replaying(self) -> bool: ...

    def note(self, kind: str, name: str, key: bytes | None, at_ms: float = 0.0, value: bytes | None = None) -> Noted:
        """Journal the operation, or find it in the journal. Raises Diverged, or the TerminalError that it was refused with.

        `value`: what it is known by later, which no replay compares.
        """
        ...

    def look(self, row: bytes) -> bytes | None:
        """A row of the shard's journal, as it is for what has been done so far."""
        ...

    def lay(self, row: bytes, value: bytes) -> None:
        """Write a row, with all else that is done up to the next wait."""
        ...

    def outlive(self) -> None:
        """It has something to wait for. Raises TerminalError when it is too large to be kept."""
        ...

    def open(self, op: Open, *, fresh: bool) -> None:
        """The operation is there from now on; a fresh one begins when its segment becomes part of the epoch."""
        ...

    def resolve(self, target: str, key: bytes | None) -> tuple[str, str]:
        """(other app or "", service/handler): see `addressing.resolve`. What cannot be looked at now ends the attempt."""
        ...

    def reach(self, app: str) -> None:
        """Raises TerminalError when there is no such app. What cannot be looked at now ends the attempt."""
        ...

    def refuse_entry(self, error: TerminalError) -> NoReturn:
        """The operation just noted does not happen, in this run and in each replay: raise this."""
        ...


class Effects(Protocol):
    """What an operation can do to the epoch when it begins."""

    def timer(self, op: Open, timer: Timer) -> None:
        """Set its timer: its invocation is written, for its timers are found in the journal."""
        ...

    def step(self, op: Open) -> None:
        """Run it outside once this epoch is durable; until its result is recorded its timer is due: a crash runs it again."""
        ...

    def route(self, command: Command) -> None:
        """Send a command: to another invocation, of this app or of another."""
        ...

    def drop(self, op: Open) -> None:
        """Drop its timer: nobody waits for it any more."""
        ...

    def row(self, key: bytes, value: bytes | None) -> None:
        """Write a row of the shard's journal, or with None delete it."""
        ...

    def rows(self, prefix: bytes) -> list[bytes]:
        """The keys of the rows that say who waits, below this one."""
        ...


class Fired(Protocol):
    """A timer of an operation whose time has come, and what can be done about it."""

    ref: int
    timer: Timer
    at_once: bool
    """Its time had come when it was set: it only brings back what a crash has interrupted."""

    @property
    def status(self) -> str:
        """Of its invocation; empty when there is none, or another one has its id now. To be asked once, and before `again`."""
        ...

    def drop(self) -> None:
        """It is done with."""
        ...

    def keep(self) -> None:
        """It goes on being due: the next owner of the shard meets it again."""
        ...

    def settle(self) -> None:
        """The operation has ended, with no value."""
        ...

    def again(self) -> None:
        """Begin the operation anew, if its invocation waits for it still, and it is not at work."""
        ...


class Kind:
    """One kind of operation. There is one object of each, in `table.KINDS`."""

    name: ClassVar[str]
    """In the journal."""
    word: ClassVar[str] = ""
    """What the handler has written to ask for it, where the result is to be awaited."""
    unawaited: ClassVar[str] = ""
    """What it means that nobody awaits it."""
    outside: ClassVar[str] = ""
    """By commands of which kind its result comes, if it comes by one: no other kind settles it."""
    parting: ClassVar[bool] = False
    """It happens also if its invocation ends in the segment that asked for it."""

    def ask(self, asker: Asker, asked: Any) -> Any:
        """A handler asks for it; gives what the handler is given at once. A replay comes here, too."""
        raise NotImplementedError

    def timer(self, id_: str, entry: Entry) -> bytes | None:
        """The key of the timer that it has while it is open, told from its entry alone."""
        return None

    def row(self, base: bytes, id_: str, entry: Entry) -> bytes | None:
        """The key of the row that says that it waits, told from its entry alone. `base`: of its object's keys."""
        return None

    def callee(self, app: str, id_: str, entry: Entry) -> Callee | None:
        """The invocation that it has started, told from its entry alone. `app`, `id_`: of the one that asked for it."""
        return None

    def begin(self, op: Open, effects: Effects) -> None:
        """Its segment has become part of the epoch. Never at a replay."""
        raise NotImplementedError

    def due(self, fired: Fired) -> None:
        """Its timer's time has come."""
        raise NotImplementedError


class Withdrawal(Kind):
    """That nobody waits for an operation any more: none of itself, and nothing that the journal has."""

    parting = True

    def begin(self, op: Open, effects: Effects) -> None:
        effects.drop(op)


WITHDRAWAL = Withdrawal()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A kind that is only recorded: it is there at once, and nothing of it is waited for."""

    name: str
    outside: str = ""
    word: str = ""

    def timer(self, id_: str, entry: Entry) -> bytes | None:
        """It has none."""
        return None

    def row(self, base: bytes, id_: str, entry: Entry) -> bytes | None:
        """It has none."""
        return None

    def callee(self, app: str, id_: str, entry: Entry) -> Callee | None:
        """It has none."""
        return None

    def due(self, fired: Fired) -> None:
        """A timer of that name is nobody's."""
        fired.drop()
