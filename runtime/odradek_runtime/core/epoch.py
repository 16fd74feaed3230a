"""An epoch: everything one worker does between two commits, gathered so that it commits or vanishes as one.

The machine fills it; the worker turns it into a `Transaction` and, once that is durable, lets out what waited for it:
replies and steps (invariant 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from odradek._port import StepBody
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, Position, Positions
from odradek_runtime.core.records.request import Answer, Pending, Reply
from odradek_runtime.log.port import Outgoing, Partition, Transaction

if TYPE_CHECKING:
    from .shard import Shard
    from .timers import Shown


RESET = "reset-"
"""What the ids of resets begin with. Records that are read again after one are counted nowhere."""
NO_RESET = ("", 0)
Rows = dict[tuple[int, bytes], bytes | None]
"""(shard, key in its journal) -> value; None deletes."""


class Owner(Protocol):
    """The invocation that a step is of."""

    @property
    def id(self) -> str:
        """Made when it is asked for, by whichever thread."""
        ...


@dataclass(slots=True, eq=False)
class StepRun:
    """A step that runs, or is to run, outside; `attempt` counts the runs that failed before."""

    shard: int
    incarnation: int
    owner: Owner
    ref: int
    body: StepBody
    attempt: int
    first_ms: int
    held_bytes: int = 0
    """What its invocation holds in memory, about: the body cannot be run without it."""

    @property
    def id(self) -> str:
        """Of its invocation."""
        return self.owner.id

    @property
    def key(self) -> str:
        """The same at every attempt, another one for every entry of a journal."""
        return f"{self.owner.id}-{self.ref}"


@dataclass(slots=True)
class Epoch:
    """`urgent`: somebody waits for this commit, so it is not worth gathering more. `started_ms`: by the steady clock."""

    number: int
    started_ms: float = 0.0
    events: int = 0
    bytes: int = 0
    handovers: int = 0
    urgent: bool = False
    touched: dict[int, Shard] = field(default_factory=dict[int, "Shard"])
    roots: list[str] = field(default_factory=list[str])
    condemned: dict[str, str] = field(default_factory=dict[str, str])
    """Suspects that it fails, and why: they stay suspects if it does not commit for another reason."""
    outputs: list[Outgoing] = field(default_factory=list[Outgoing])
    replies: list[tuple[Answer, Reply]] = field(default_factory=list[tuple[Answer, Reply]])
    accepted: list[Pending] = field(default_factory=list[Pending])
    """Requests that wait for the end of an invocation that this epoch makes, or finds, durable."""
    tally: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """(what has happened, `service/handler`) -> how often; counted when the epoch is durable."""
    replayed: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """(id of a replay, field of `ReplayTally`) -> how many of its invocations."""
    replay_rows: Rows = field(default_factory=Rows)
    """(shard, key in its journal) -> what this epoch writes there of replays."""
    lasted_s: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """`service/handler` of what has ended, and the seconds from its start to its end."""
    steps: list[StepRun] = field(default_factory=list[StepRun])
    """To run once it is durable."""
    early: list[StepRun] = field(default_factory=list[StepRun])
    """To run at once: idempotent ones. What is left of them when it closes waits as the others do."""
    results: int = 0
    """Steps that have ended, well or not: their results are in it."""

    def begin(self, steady_ms: float) -> None:
        """Before an event is added: with the first its time begins."""
        if self.events == 0:
            self.started_ms = steady_ms

    def count(self, what: str, target: str, number: int = 1) -> None:
        """Something has happened to invocations of this handler; `what` is a field of `HandlerMetrics`."""
        key = (what, target)
        self.tally[key] = self.tally.get(key, 0) + number

    def count_again(self, again: str, what: str) -> None:
        """An invocation that a record has started has ended. `again`: what delivered the record, if it was delivered again."""
        if again and not again.startswith(RESET):
            self.count_replayed(again.partition("@")[0], what)

    def count_replayed(self, replay: str, what: str) -> None:
        """Something has happened to an invocation that a replay has started; `what` is a field of `ReplayTally`."""
        self.replayed[replay, what] = self.replayed.get((replay, what), 0) + 1

    @property
    def empty(self) -> bool:
        return not self.touched and not self.replies

    def transaction(self, app: str, shards: int, now_ms: float, steady_ms: float) -> Transaction:
        """The epoch as the log takes it; each touched shard ends with its positions record and fences with its offsets."""
        transaction = Transaction(epoch=self.number, stamps={p: shard.stamp for p, shard in self.touched.items()})
        transaction.outputs = self.outputs
        for number, shard in self.touched.items():
            state: list[tuple[bytes, bytes | None]] = []
            journal: list[tuple[bytes, bytes | None]] = []
            for key, value in shard.changes.items():
                if key[0] == 115:  # b"s": the state changelog carries the key without the letter
                    state.append((key[1:], value))
                else:
                    journal.append((key, value))
            shown = shard.timers.shown(now_ms, steady_ms)
            record = POSITIONS.encode(positions_record(shard, shards, self.number, shown))
            shard.changes[keys.POSITIONS] = record
            journal.append((keys.POSITIONS, record))
            transaction.state[number] = state
            transaction.journal[number] = journal
            transaction.state_headers[number] = [("odradek", f"{shard.incarnation}.{self.number}".encode())]
            commands = Partition(f"{app}.commands", number)
            transaction.offsets[commands] = shard.positions.get(commands, 0)
            for partition in shard.advanced:
                transaction.offsets[partition] = shard.positions[partition]
        return transaction


def positions_record(shard: Shard, shards: int, epoch: int, shown: Shown) -> Positions:
    """Where a shard stands in every partition it reads: the record that closes its part of an epoch."""
    inputs = [Position(p.topic, p.partition, offset, shard.topic_ids.get(p.topic, "")) for p, offset in shard.positions.items()]
    if shard.resets:
        for place in inputs:
            place.reset, place.until = shard.resets.get(Partition(place.topic, place.partition), NO_RESET)
    at, before_ms = shard.at, [int(each_ms) for each_ms in shown.before_ms]
    return Positions(
        shards, shard.incarnation, epoch, shard.sequence, int(shown.now_ms), inputs,
        journal_id=at.journal_id, state_id=at.state_id, clock=shown.clock, clocks_ms=before_ms,
    )  # fmt: skip
