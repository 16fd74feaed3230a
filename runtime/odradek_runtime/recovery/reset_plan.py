"""The plan of a reset: which positions of an app are to move, from where, and where to; read from the log, nothing is done yet.

The command line and the admin API make one and have it carried out: by the workers (`orders`, `resets`), or, while none runs, by
`repositioning`. Where an app stands is in its journal and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from odradek_runtime.core.records.formats import POSITIONS, Command, Position, Positions, StorePosition
from odradek_runtime.core.records.sieve import Sieve
from odradek_runtime.log.port import Log, Partition, TopicInfo
from odradek_runtime.worker.restore.own_positions import last_positions


class NoSuchPosition(Exception):
    """What is to be moved is not there; `known`: the names that would have been."""

    def __init__(self, said: str, known: Sequence[str] = ()) -> None:
        super().__init__(said)
        self.known = known


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one shard stands, as its journal says. `at`: the offset of the record that says so."""

    shard: int
    at: int
    end: int
    positions: Positions | None

    def place(self, partition: Partition) -> Position | None:
        """Its position in a partition, if it has one."""
        inputs = self.positions.inputs if self.positions is not None else ()
        return next((place for place in inputs if (place.topic, place.partition) == partition), None)


@dataclass(frozen=True, slots=True)
class Move:
    """One position. `first`, `end`: what the partition holds. `wanted`: where it was to go; some of that may be gone."""

    partition: Partition
    topic_id: str
    shard: int
    now: int
    wanted: int
    first: int
    end: int

    @property
    def to(self) -> int:
        """Where it goes: to what there is."""
        return min(max(self.wanted, self.first), self.end)

    @property
    def again(self) -> int:
        """Offsets that are read again."""
        return max(self.now - self.to, 0)

    @property
    def skipped(self) -> int:
        """Offsets that are not read any more."""
        return max(self.to - max(self.now, self.first), 0)

    @property
    def gone(self) -> int:
        """Offsets that were asked for, and have been deleted."""
        return max(self.first - self.wanted, 0)

    def order(self, id_: str, by: str) -> tuple[int, Command]:
        """What has the shard carry it out while it runs."""
        topic, number = self.partition
        return self.shard, Command("reset", id_, by, topic=topic, partition=number, offset=self.to, topic_id=self.topic_id)


def journal_of(log: Log, app: str) -> TopicInfo:
    """The app's journal. Raises NoSuchPosition when it has none."""
    journal = log.topic(f"{app}.journal")
    if journal is None:
        raise NoSuchPosition(f"there is no app {app!r} here: topic {app}.journal does not exist")
    return journal


def standing(log: Log, journal: TopicInfo, shard: int) -> Standing:
    """Blocks. Where a shard stands. Raises LogError."""
    partition = Partition(journal.name, shard)
    first, end = log.offsets(partition)
    at = StorePosition(journal.id, "", first, 0, 0)
    offset, raw = last_positions(log, Sieve(journal.partitions, shard), partition, at, end, restored=False)
    return Standing(shard, offset, end, POSITIONS.decode(raw) if raw is not None else None)


def plan(log: Log, app: str, topic: str, number: int | None, to: Callable[[Log, Partition], int]) -> list[Move]:
    """Blocks. The moves of all partitions of a topic that the app reads, or of one. Raises NoSuchPosition, LogError."""
    journal = journal_of(log, app)
    standings = [standing(log, journal, shard) for shard in range(journal.partitions)]
    info = _read_topic(log, app, topic, standings)
    if number is not None and not 0 <= number < info.partitions:
        raise NoSuchPosition(f"{topic} has partitions 0 to {info.partitions - 1}, not {number}")
    return [
        _move(log, info, standings[each % journal.partitions], Partition(topic, each), to)
        for each in (range(info.partitions) if number is None else [number])
    ]


def _read_topic(log: Log, app: str, topic: str, standings: Sequence[Standing]) -> TopicInfo:
    """A topic that the app has positions in. Raises NoSuchPosition."""
    found = {place.topic for each in standings if each.positions is not None for place in each.positions.inputs}
    known = sorted(found - {f"{app}.commands"})
    if not found:
        raise NoSuchPosition(f"the app {app!r} has no positions: it has never run")
    if topic not in known:
        internal = " (that is its own bookkeeping)" if topic in found else ""
        raise NoSuchPosition(f"the app {app!r} has no position in {topic!r}{internal}: it does not subscribe to it", known)
    info = log.topic(topic)
    if info is None:
        raise NoSuchPosition(f"topic {topic!r} does not exist any more", known)
    return info


def _move(log: Log, info: TopicInfo, stands: Standing, partition: Partition, to: Callable[[Log, Partition], int]) -> Move:
    place = stands.place(partition)
    if place is None:
        raise NoSuchPosition(f"{partition.topic}[{partition.partition}] has no position yet: start the app once")
    if place.topic_id not in ("", info.id):
        raise NoSuchPosition(
            f"topic {info.name} was deleted and made again since the app last ran: it will be read from its beginning"
        )
    first, end = log.offsets(partition)
    return Move(partition, info.id, stands.shard, place.offset, to(log, partition), first, end)


class Carried:
    """Whether an order has been carried out, as the journals and the group's offsets tell. Made when it has just been given."""

    def __init__(self, log: Log, app: str, id_: str, moves: Sequence[Move]) -> None:
        self._log = log
        self._app = app
        self._id = id_
        self._journal = journal_of(log, app)
        self.open = list(moves)
        """Those that are not known to have been carried out."""
        self._behind: Mapping[Partition, int] = {p: log.offsets(p)[1] for p in {self._commands(move) for move in moves}}

    def _commands(self, move: Move) -> Partition:
        return Partition(f"{self._app}.commands", move.shard)

    def done(self) -> bool:
        """Blocks. Look whether nothing is open any more. Raises NoSuchPosition when a shard has refused it, LogError."""
        taken = self._log.committed_offsets(self._app, list(self._behind))  # before the journals: they are written with these
        standings = {shard: standing(self._log, self._journal, shard) for shard in {move.shard for move in self.open}}
        self.open = [move for move in self.open if not self._done(standings[move.shard], move)]
        refused = [move for move in self.open if taken.get(self._commands(move), 0) >= self._behind[self._commands(move)]]
        if refused:
            topic, number = refused[0].partition
            raise NoSuchPosition(
                f"{topic}[{number}] was not moved: its shard has refused the order, which is in {self._app}.dead-letters with the "
                "reason, or another reset has moved it since"
            )
        return not self.open

    def _done(self, stands: Standing, move: Move) -> bool:
        place = stands.place(move.partition)
        return place is not None and place.reset == self._id
