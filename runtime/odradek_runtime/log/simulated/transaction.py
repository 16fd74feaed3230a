"""A transaction as brokers see it: records first, then offsets, then a decision, and its markers some time later.

Every phase is an event of its own, so anything may come between: an eviction, a crash, a fence, another transaction. The
coordinator's decision is final the moment it is taken; readers see it when the marker reaches their partition.
"""

from __future__ import annotations

from collections.abc import Callable

from odradek_runtime.log.port import ChangelogPosition, Output, Partition, Transaction
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.group import Group
from odradek_runtime.log.simulated.partition import PartitionLog


class SimulatedTransaction:
    """One transaction. `decision` None: open."""

    def __init__(self, brokers: Brokers, group: Group, owner: str, order: Transaction) -> None:
        self.order = order
        self.owner = owner
        self.decision: bool | None = None
        self.unmarked = 0
        self.late_commands_ms = 0.0
        """How much later than others the markers of commands come."""
        self._brokers = brokers
        self._group = group
        self._touched: list[PartitionLog] = []
        self._done: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        """Decided, and every marker has arrived."""
        return self.decision is not None and self.unmarked == 0

    def when_ended(self, action: Callable[[], None]) -> None:
        if self.ended:
            action()
        else:
            self._done.append(action)

    def write(self) -> dict[int, ChangelogPosition]:
        """Append every record; gives where the changelogs would end."""
        app = self._group.app
        for output in self.order.outputs:
            self._append(Output(*output))
        positions: dict[int, ChangelogPosition] = {}
        for number in self.order.stamps:
            ends: list[int | None] = []
            for name, changes, headers in (
                ("state", self.order.state, self.order.state_headers.get(number)),
                ("journal", self.order.journal, None),
            ):
                last = None
                for key, value in changes.get(number, ()):
                    last = self._append(Output(f"{app}.{name}", number, key, value, headers)) + 1
                ends.append(last)
            positions[number] = ChangelogPosition(journal=ends[1], state=ends[0])
        return positions

    def _append(self, output: Output) -> int:
        target = self._brokers.target(output)
        if target not in self._touched:
            self._touched.append(target)
        return target.append(output, self, self._brokers.scheduler.now_ms)

    def hold_offsets(self) -> None:
        """Its offsets are with the coordinator, pending."""
        self._group.hold(self, dict(self.order.offsets))

    def decide(self, *, commit: bool) -> None:
        """The outcome is final; the markers follow, each in its own time."""
        assert self.decision is None, "a transaction is decided once"
        self.decision = commit
        if commit:
            self._brokers.auditor(self._group.app).committed(self)
        self.unmarked = len(self._touched) + 1
        scheduler = self._brokers.scheduler
        marker = f"marker of {self.owner}/{self.order.epoch} in"
        for partition in self._touched:
            name = f"{marker} {partition.where.topic}[{partition.where.partition}]"
            late_ms = self.late_commands_ms if partition.where.topic.endswith(".commands") else 0.0
            scheduler.later(self._brokers.marker_ms() + late_ms, name, self._marker(partition))
        scheduler.later(self._brokers.marker_ms(), f"{marker} the offsets", self._offsets_marker)

    def _marker(self, partition: PartitionLog) -> Callable[[], None]:
        def arrive() -> None:
            partition.mark(self, commit=bool(self.decision))
            self._brokers.grown()
            self._marked()

        return arrive

    def _offsets_marker(self) -> None:
        self._group.mark(self, commit=bool(self.decision))
        self._marked()

    def _marked(self) -> None:
        self.unmarked -= 1
        if self.unmarked == 0:
            done, self._done = self._done, []
            for action in done:
                action()

    def tear(self, keep: Callable[[Partition], bool]) -> None:
        """What a commit request that arrives too early does: part of it is committed, the rest aborted."""
        for partition in list(self._touched):
            partition.tear(self, commit=keep(partition.where))
        self._touched.clear()
        self._brokers.grown()
        self.decide(commit=False)
