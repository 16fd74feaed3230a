"""The commits: the epoch that has been sent, and what becomes true when the log has it.

Stands between the open epoch and the log. One epoch executes while the one before it commits, so there is one at the most.
"""

from __future__ import annotations

from odradek_runtime.core.epoch import Epoch
from odradek_runtime.core.machine import Machine
from odradek_runtime.log.port import Committed, Member, Partition, Transaction

from .intake import Intake


class Commits:
    """Of one engine. `recent_bytes`: what all shards together may keep in memory of what is committed."""

    def __init__(self, machine: Machine, member: Member, intake: Intake, recent_bytes: int) -> None:
        self.inflight: Epoch | None = None
        self.sent_steady_ms = 0.0
        """When the last one was sent, by the steady clock."""
        self._machine = machine
        self._member = member
        self._intake = intake
        self._recent_bytes = recent_bytes
        self._sent_ms = 0.0
        self._sent_commands: dict[Partition, int] = {}

    def send(self) -> None:
        """Close the open epoch and commit it."""
        assert self.inflight is None, "one at a time"
        machine = self._machine
        epoch = machine.close()
        transaction: Transaction = epoch.transaction(machine.app.name, machine.n, machine.now_ms, machine.steady_ms)
        for shard in epoch.touched.values():
            shard.close_epoch()
        machine.keeping.evict()
        self.inflight = epoch
        self._sent_ms, self.sent_steady_ms = machine.now_ms, machine.steady_ms
        self._sent_commands = {p: o for p, o in transaction.offsets.items() if p.topic == machine.commands_topic}
        self._member.commit(transaction)

    def ended(self, number: int) -> Epoch:
        """The log has answered, one way or the other: nothing is in flight."""
        epoch, self.inflight = self.inflight, None
        assert epoch is not None, "the log answers what it was given"
        assert epoch.number == number, "and answers the epoch that is in flight"
        return epoch

    def committed(self, event: Committed) -> Epoch:
        """It is durable: its shards have it, who waits for it is told, and it counts. Its steps may start."""
        epoch, machine = self.ended(event.epoch), self._machine
        self._intake.done_commands.update(self._sent_commands)
        recent_bytes = self._recent_bytes // max(len(machine.shards), 1)
        for shard_number, shard in epoch.touched.items():
            shard.committed(event.positions[shard_number], int(self._sent_ms), self.sent_steady_ms, recent_bytes)
        if epoch.replay_rows:
            machine.replays.committed(epoch)
        for answer, reply in epoch.replies:
            answer(reply)
        for pending in epoch.accepted:
            pending.accept()
        self._count(epoch)
        return epoch

    def _count(self, epoch: Epoch) -> None:
        metrics = self._machine.metrics
        metrics.epochs += 1
        metrics.events += epoch.events
        metrics.outputs += len(epoch.outputs)
        metrics.steps += epoch.results
        metrics.add(epoch.tally, epoch.lasted_s)
        metrics.commit_s.observe((self._machine.steady_ms - self.sent_steady_ms) / 1000)
