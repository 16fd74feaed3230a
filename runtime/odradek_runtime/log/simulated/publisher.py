"""Writes to a simulated cluster from outside any app, whole transactions at once; a newer publisher of a name fences the older.

Stands where a producer of input records stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.log.simulated.brokers import Brokers


class Outside:
    """All that has been written from outside: the newest publisher of each name, and its position."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._newest: dict[str, SimulatedPublisher] = {}
        self._positions: dict[str, int] = {}

    def publisher(self, name: str) -> SimulatedPublisher:
        """A new publisher, which takes its name over."""
        self._newest[name] = publisher = SimulatedPublisher(self, name)
        return publisher

    def newest(self, publisher: SimulatedPublisher) -> bool:
        """Whether nobody has taken its name over."""
        return self._newest.get(publisher.name) is publisher

    def position(self, name: str) -> int:
        """The position that was committed with its last records."""
        return self._positions.get(name, 0)

    def write(self, name: str, outputs: Sequence[Output], position: int) -> list[tuple[Partition, int]]:
        """A whole transaction, at once; gives where each record lies."""
        targets = [self._brokers.target(output) for output in outputs]
        whole = object()
        places = [
            (target.where, target.append(output, whole, self._brokers.scheduler.now_ms))
            for target, output in zip(targets, outputs, strict=True)
        ]
        for target in dict.fromkeys(targets):
            target.mark(whole, commit=True)
        self._positions[name] = position
        self._brokers.grown()
        return places


class SimulatedPublisher:
    """One publisher (`log.port.Publisher`)."""

    def __init__(self, outside: Outside, name: str) -> None:
        self.name = name
        self._outside = outside

    def position(self) -> int:
        return self._outside.position(self.name)

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        if not self._outside.newest(self):
            raise LogError(f"publisher {self.name!r} was taken over by a newer one", retriable=False)
        self._outside.write(self.name, outputs, position)

    def close(self) -> None:
        """Nothing to free."""
