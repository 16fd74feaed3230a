"""The engine: the loop that feeds the machine and commits its epochs. Where a fetched record enters and a commit is sent.

Nothing here blocks or waits: `post` takes an event, `turn` does what can be done now, `patience_s` says when to look again. The
worker drives it in a thread; a simulation drives it from a seed. One epoch executes while the one before it commits.
"""

from __future__ import annotations

import logging

from odradek._current import CURRENT
from odradek_runtime.clock import Clock
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.epoch import Epoch
from odradek_runtime.core.machine import Machine
from odradek_runtime.core.records.request import Question, Reply
from odradek_runtime.core.shard import StoreLost
from odradek_runtime.core.topics.unavailable import Unavailable
from odradek_runtime.log.port import (
    Committed,
    Event,
    Gained,
    LogError,
    Losing,
    Member,
    Partition,
    Records,
    Refused,
    Trouble,
)
from odradek_runtime.routing import id_hash
from odradek_runtime.worker.restore.ownership import Asked, Discard, Ownership, Restored
from odradek_runtime.worker.steps.executor import Executor, StepsEnded

from .agenda import Agenda
from .commits import Commits
from .flags import Flags
from .handover import Handover
from .intake import Intake
from .isolation import Isolation
from .replaying import Replaying, Reread, Rereader
from .standstill import Standstill
from .throttle import Throttle

logger = logging.getLogger("odradek")

SLICE = 250
"""Records between two looks at the events: an answer from the log is not kept waiting longer than a few milliseconds."""
STRIDES = (10, 125)
"""Records between two looks at the size of the epoch, at least and at most: what they make may be far larger than they are."""
BUSY_MS = 10.0
"""How long an epoch that somebody waits for may go on with what it has set going itself."""
STANDSTILL_LOOK_S = 0.1
HOUR_MS = 1_800_000
"""Every owned offset is committed again at least this often (invariant 10)."""


Input = Event | Reread | StepsEnded | Question | Restored | Discard


class Engine:
    """One worker's engine. `ownership` restores and drops shards beside it."""

    def __init__(
        self,
        machine: Machine,
        member: Member,
        executor: Executor,
        ownership: Ownership,
        settings: Settings,
        clock: Clock,
        rereader: Rereader,
    ) -> None:
        self.machine = machine
        self.flags = Flags()
        self._executor = executor
        self._ownership = ownership
        self._settings = settings
        self._clock = clock
        machine.look_at_clock = self._let_time_pass
        self.intake = Intake(machine, member)
        self._commits = Commits(machine, member, self.intake, settings.shares.recent_bytes)
        self._throttle = Throttle(machine, executor, self.intake, settings, self.flags)
        self._agenda = Agenda(machine, self._full, self._one_by_one, executor.took)
        self._asked = Asked()
        self._isolation = Isolation(machine, settings.epoch_events)
        self._replaying = Replaying(machine, rereader, self._full, self._one_by_one, lambda: self.flags.paused)
        self._handover = Handover(machine, ownership, self.intake, self._replaying, self._asked, self.flags)
        self._bytes_each = settings.epoch_bytes
        """What each record just processed has added to its epoch; falls slowly, for large ones come again."""
        self._standstill = Standstill(machine)
        self._refreshed_ms = clock.steady_ms()

    # --- events ---

    def post(self, event: Input) -> None:
        """Take one event. Called in the engine's thread only."""
        self._look_at_clock()
        match event:
            case Records():
                self.intake.add(event)
            case Reread():
                self._replaying.add(event)
            case StepsEnded():
                self._agenda.ended.extend(event.ended)
            case Question():
                self._question(event)
            case Committed():
                self._committed(event)
            case Refused():
                self._refused(event)
            case Gained():
                self._handover.gain(event)
            case Restored():
                self._restored(event)
            case Discard():
                event.obey(self.machine.shards)
            case Losing():
                self._handover.lose(event)
            case Trouble():
                self._trouble(event)

    def _trouble(self, event: Trouble) -> None:
        if event.refusal is not None:
            self.machine.targets.unavailable.refusals.note(event.refusal, self.machine.steady_ms)
        elif event.fatal:  # told as the worker ends
            self.flags.fatal = event.message
        else:
            logger.warning("%s", event.message)

    def turn(self) -> None:
        """Do what can be done now: release shards, process a slice, fire timers, close the epoch."""
        self._look_at_clock()
        if self.flags.start_over and self.inflight is None:
            self._start_over()
        self._write_back()
        if self._stores_are_sound():
            try:
                self._advance()
            except StoreLost:
                self._stores_are_sound()
            except (Unavailable, LogError) as error:
                self._standstill.met(error)
                self.flags.start_over = str(error)
        self._throttle.regulate(self.inflight)

    def _advance(self) -> None:
        """Everything that reads the stores. Raises StoreLost."""
        self._handover.release(self.inflight)
        if self._standstill.lasts and not self.flags.stopping:
            if self._handover.losing:
                self._close_if_due()
            return
        self._agenda.watch_clock()
        self._agenda.end_steps()
        if not self.flags.stopping:
            if self._isolation.split and self.machine.epoch.number % 2:
                self._work()  # an epoch that is small may never have room for records after the agenda: they come first in turns
            self._agenda.turn()
            self._replaying.turn()
            self._work()
            self._refresh()
            self._start_early()
        self._close_if_due()

    def _start_early(self) -> None:
        """Steps that may run for nothing start in the turn that asks for them, unless it is known that nothing will come of it."""
        epoch = self.machine.epoch
        if epoch.early and not self.flags.start_over:
            early, epoch.early = epoch.early, []
            self._executor.submit(early)

    def _look_at_clock(self) -> None:
        self.machine.now_ms, self.machine.steady_ms = self._clock.wall_ms(), self._clock.steady_ms()

    def _let_time_pass(self) -> None:
        """Within a turn, by the steady clock alone: all of its timers are reckoned by one wall clock, the one it began with."""
        steady_ms = self._clock.steady_ms()
        self.machine.now_ms += steady_ms - self.machine.steady_ms
        self.machine.steady_ms = steady_ms

    def patience_s(self) -> float:
        """How long nothing needs doing unless an event comes, in seconds."""
        if self.flags.store_lost:
            return 0.5 if self.inflight is not None else 0.0
        if self._standstill.lasts and not self.flags.stopping:
            return STANDSTILL_LOOK_S
        if self._may_work and not self._full() and not self.flags.stopping:
            return 0.0
        if self._agenda.waiting and not self._full() and not self.flags.stopping:
            return 0.0
        if self._agenda.ended and not self._full():
            return 0.0
        now_ms, steady_ms = self.machine.now_ms, self.machine.steady_ms
        open_ = [shard for shard in self.machine.shards.values() if shard.phase == "open" and not self._agenda.timers_held]
        waits_ms = [shard.timers.wait_ms(now_ms, steady_ms) for shard in open_]
        waits_ms.append(self._agenda.wait_ms(steady_ms))
        if not self.flags.stopping:
            waits_ms.append(self._replaying.wait_ms(steady_ms))
        if self.intake.waiting and self._throttle.clear_ms > 0.0:
            waits_ms.append(self._throttle.clear_ms)
        if self.inflight is None and not self.machine.epoch.empty:
            waits_ms.append(max(0.0 if self.machine.epoch.urgent else self._linger_ms(), self._throttle.drain_ms))
        return min(max(min(waits_ms, default=500.0), 0.0), 500.0) / 1000 if not self._full() else 0.5

    @property
    def inflight(self) -> Epoch | None:
        """The epoch that commits now."""
        return self._commits.inflight

    @property
    def idle(self) -> bool:
        """Nothing is open and nothing in flight."""
        return self.inflight is None and self.machine.epoch.empty and not self._agenda.ended

    def positions(self) -> dict[Partition, int]:
        """Next offset of every partition that is read here; safe from any thread."""
        return self.intake.positions()

    def committed_commands(self) -> dict[Partition, int]:
        """Up to where commands are done with; safe from any thread."""
        return dict(self.intake.done_commands)

    # --- work ---

    def _full(self) -> bool:
        epoch = self.machine.epoch
        limit = self._isolation.split or self._settings.epoch_events
        return epoch.events >= limit or epoch.bytes >= self._settings.epoch_bytes

    def _one_by_one(self) -> bool:
        """Epochs are split to find a culprit."""
        return bool(self._isolation.split)

    def _work(self) -> None:
        split = self._isolation.split
        budget = split or SLICE
        while budget > 0 and self._may_work and not self._full():
            epoch = self.machine.epoch
            before = epoch.bytes
            taken = self.intake.process(1 if split else min(budget, self._stride(epoch)))
            self._bytes_each = max((epoch.bytes - before) // taken, self._bytes_each // 2)
            budget -= taken

    @property
    def _may_work(self) -> bool:
        """Records or commands are there and do not have to wait."""
        return self.intake.waiting and (self.intake.has_commands or not self._throttle.holds(self.inflight))

    def _stride(self, epoch: Epoch) -> int:
        """As many records as may take a sixteenth of an epoch, going by those just processed; no more than it has room for."""
        least, most = STRIDES
        fitting = self._settings.epoch_bytes // (16 * (self._bytes_each + 1))
        return min(max(least, min(most, fitting)), self._settings.epoch_events - epoch.events)

    def _question(self, question: Question) -> None:
        id_ = question.request.invocation_id
        number = id_hash(id_) % self.machine.n
        if not self._ownership.owns(number) or self.flags.stopping:
            question.answer(Reply("moved", id_))
            return
        self._agenda.questions.append((number, self._asked.add(number, question)))

    def _refresh(self) -> None:
        """Offsets of quiet partitions are committed again before Kafka forgets them (invariant 10)."""
        self.intake.commit_passed()
        if self.machine.steady_ms - self._refreshed_ms > HOUR_MS:
            self._refreshed_ms = self.machine.steady_ms
            for shard in self.machine.shards.values():
                shard.advanced.update(p for p in shard.positions if self.intake.reads(shard, p))
                self.machine.touch(shard)

    # --- commits ---

    def _close_if_due(self) -> None:
        epoch = self.machine.epoch
        if epoch.empty:
            epoch.events = epoch.bytes = 0  # events that did nothing: an epoch full of them would never be closed
        if self.inflight is not None or epoch.empty or self.flags.start_over:
            return
        age_ms = self.machine.steady_ms - epoch.started_ms
        forced = self._handover.losing or self.flags.stopping
        urgent = epoch.urgent and (not self.machine.busy or age_ms >= BUSY_MS)
        due = forced or self._full() or ((urgent or self._linger_ms() <= 0) and self._throttle.may_close())
        if due and self._stores_are_sound():
            self._commits.send()

    def _linger_ms(self) -> float:
        """How long the open epoch may still gather what nobody waits for.

        It is reckoned from when the one before was sent, for what comes alone need not wait for company; under a backlog from its
        own beginning.
        """
        if self._may_work:
            begun_ms, linger_s = self.machine.epoch.started_ms, max(self._settings.epoch_linger_s, self._settings.epoch_backlog_s)
        else:
            begun_ms, linger_s = self._commits.sent_steady_ms, self._settings.epoch_linger_s
        return begun_ms + linger_s * 1000 - self.machine.steady_ms

    def _committed(self, event: Committed) -> None:
        epoch = self._commits.committed(event)
        self.flags.refused = ""
        self._executor.submit(epoch.steps)
        self._opened(epoch)
        self._isolation.committed(epoch)

    def _write_back(self) -> None:
        """What is committed goes into the stores by time."""
        for shard in self.machine.shards.values():
            if shard.overdue(self.machine.steady_ms):
                shard.write_back()

    def _stores_are_sound(self) -> bool:
        """False once a store has failed: what was read from it may be in the open epoch, which is dropped; the log has it all."""
        for shard in self.machine.shards.values():
            if shard.store_error is not None:
                if not self.flags.store_lost:
                    logger.error("shard %d starts over: %s", shard.number, shard.store_error)
                self.flags.store_lost = True
                self.flags.start_over = str(shard.store_error)
        return not self.flags.store_lost

    def _opened(self, epoch: Epoch) -> None:
        """Shards whose opening epoch is durable begin to read and to answer."""
        opening = [s for n, s in epoch.touched.items() if s.phase == "opening" and self.machine.shards.get(n) is s]
        if not opening:
            return
        self.machine.replays.changed = True
        for shard in opening:
            shard.phase = "open"
        self.intake.open(opening)
        try:
            for shard in opening:
                self._ownership.opened(shard)
                self._agenda.look_at_paused(shard)
                self._agenda.questions.extend((shard.number, pending) for pending in self._asked.of(shard.number))
        except StoreLost:
            self._stores_are_sound()

    def _refused(self, event: Refused) -> None:
        epoch = self._commits.ended(event.epoch)
        self.machine.metrics.epochs_refused += 1
        logger.warning("epoch %d was not committed (%s): %s; starting over from the log", epoch.number, event.reason, event.message)
        if event.refusal is not None:
            self._standstill.refused(event.refusal)
        if event.poison:
            self.machine.sizes.renew()
            self.machine.targets.renew(self.machine.n)
            self._isolation.aborted(epoch, event.message)
        else:
            self.machine.poison.update(epoch.condemned)
            self.flags.refused = event.message if event.refusal is None else ""
        self.flags.start_over = event.message

    # --- ownership ---

    def _restored(self, event: Restored) -> None:
        shard = event.shard
        if not self._ownership.accept(event) or shard.number in self._handover.leaving():
            return
        self.machine.metrics.restored(shard.foreign, rebuilt=event.rebuilt)
        self.machine.shards[shard.number] = shard
        for each in self.machine.shards.values():  # its former owner's commands may still be unread at any of them
            if each.phase != "leaving":
                self.machine.outward.request_barrier(each)
        shard.advanced.update(p for p in shard.positions if self.intake.reads(shard, p))
        self.machine.epoch.urgent = True

    def _start_over(self) -> None:
        """Drop everything that is not committed and restore every owned shard again (invariant 8)."""
        self.flags.store_lost = False
        self.flags.start_over = ""
        self.machine.discard()
        self.machine.targets.unavailable.waiting.clear()  # those that still wait say so when their time has come
        self._agenda.clear()
        self.intake.clear()
        leaving = self._handover.leaving()
        for number, shard in list(self.machine.shards.items()):
            self._handover.forget(number)
            if number not in leaving:
                self._ownership.retake(shard)

    def let_go(self) -> None:
        """The last act before leaving: everything is committed, the shards are dropped."""
        self._handover.let_go()
        CURRENT.set(None)

    def turn_away(self) -> None:
        """Whoever still waits for an answer asks the shard's next owner, under the same id."""
        self._handover.turn_away()
