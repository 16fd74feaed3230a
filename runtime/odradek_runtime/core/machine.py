"""The machine decides: an event comes in, its effects go into the open epoch. No I/O, no clock, no randomness of its own.

Records and commands enter here and are handed to the part of the core that they are for; this file alone knows all parts. The
worker feeds it, commits its epochs, and starts it over from the log when an epoch did not succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from odradek import App
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.lifecycle.advance import Advance
from odradek_runtime.core.lifecycle.cancelling import Cancelling
from odradek_runtime.core.lifecycle.delivery import Delivery
from odradek_runtime.core.lifecycle.due import Due
from odradek_runtime.core.lifecycle.ending import Ending
from odradek_runtime.core.lifecycle.failing import Failing
from odradek_runtime.core.lifecycle.inspection import REMEDY, Inspection
from odradek_runtime.core.lifecycle.keeping import Keeping
from odradek_runtime.core.lifecycle.killing import Killing
from odradek_runtime.core.lifecycle.limits import Limits
from odradek_runtime.core.lifecycle.living import Living
from odradek_runtime.core.lifecycle.outbox import Outbox
from odradek_runtime.core.lifecycle.outward import Outward
from odradek_runtime.core.lifecycle.pausing import Pausing
from odradek_runtime.core.lifecycle.rejection import Rejection
from odradek_runtime.core.lifecycle.replays import Replays
from odradek_runtime.core.lifecycle.resets import Resets
from odradek_runtime.core.lifecycle.restarts import Restarts
from odradek_runtime.core.lifecycle.retention import Retention
from odradek_runtime.core.lifecycle.revival import Revival
from odradek_runtime.core.lifecycle.settling import Entries, Settling
from odradek_runtime.core.lifecycle.starts import Starts
from odradek_runtime.core.lifecycle.workflows import Workflows
from odradek_runtime.core.records.formats import COMMAND, Command, Entry, FormatError, Stored
from odradek_runtime.core.records.inward import Forwarded, is_barrier, origin_of
from odradek_runtime.core.records.request import Failure, Pending, Settle
from odradek_runtime.core.running.coroutine_cache import CoroutineCache
from odradek_runtime.core.running.runner import Runner
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.parts import place_of
from odradek_runtime.log.port import Message

from .epoch import Epoch
from .handler_loop import HandlerLoop
from .lane import Lane
from .metrics import Metrics
from .scope import Scope
from .shard import Shard

SETTLED = 100
"""What one event sets going goes on within it so far; the inbox of a key, or a burst of sends, may be far longer."""


class Machine(Scope):
    """All shards of one worker. Every method works within the open epoch; `settle` finishes what an event has set going."""

    def __init__(self, app: App, shards: int, settings: Settings, targets: Targets, metrics: Metrics, loop: HandlerLoop) -> None:
        super().__init__(app, shards, settings, targets, metrics, loop)
        self.cache = CoroutineCache(settings.coroutine_cache, settings.shares.suspended_bytes)
        self.living = Living()
        self.limits = limits = Limits(self)
        self._rejection = rejection = Rejection(self)
        self.outbox = Outbox(self, rejection)
        self.outward = outward = Outward(self, rejection, self.outbox)
        self.keeping = keeping = Keeping(self, self.living, limits, outward, self.cache)
        workflows = Workflows(self, outward)
        retention = Retention(self, workflows)
        ending = Ending(self, keeping, limits, outward, rejection, retention)
        failing = Failing(self, keeping, limits, ending, rejection)
        revival = Revival(self, self.living, limits, failing)
        self._advance = advance = Advance(self, self.living, keeping, Runner(self), ending, failing, revival)
        self._delivery = Delivery(self, self.living, limits, outward, rejection, failing, advance, workflows)
        self.starts = Starts(self, self.living, keeping, limits, outward, failing, revival, advance, workflows)
        self.due = Due(self, self.living, keeping, limits, failing, revival, advance, self.starts, retention)
        killing = Killing(self, self.living, limits, outward, ending, failing, retention)
        restarts = Restarts(self, self.living, keeping, ending, killing, self.starts, self.due)
        cancelling = Cancelling(self, self.living, failing, killing, revival, advance, self.due)
        pausing = Pausing(self, self.living, limits, failing, killing, self.due)
        self.replays = Replays(self, self._delivery, rejection)
        self.resets = Resets(self)
        self._orders: dict[str, Callable[[Shard, Command], None]] = {
            "kill": killing.kill,
            "cancel": cancelling.cancel,
            "purge": killing.purge,
            "restart": restarts.restart,
            "pause": pausing.pause,
            "resume": pausing.resume,
            "replay": self.replays.begin,
            "cancel_replay": self.replays.cancel,
            "reset": self.resets.carry_out,
        }
        """By kind of command: what operators order."""
        entries = Entries(self.living)
        self._settling = Settling(self, entries, advance)
        self._inspection = Inspection(self, self.living, entries)
        self._lanes = {
            topic: Lane(self, advance, subscriptions[0], partial(self._delivery.deliver, subscriptions[0]), self.settle)
            for topic, subscriptions in self.subscriptions.items()
            if len(subscriptions) == 1 and Lane.fits(subscriptions[0])
        }

    # --- the epoch ---

    @property
    def busy(self) -> bool:
        """An event has set something going that has yet to be done."""
        return bool(self.outward.handed or self.ready)

    @property
    def lined_up(self) -> int:
        """How many have come in the open epoch for a key that is held."""
        return sum(shard.locks.lined_up for shard in self.shards.values())

    @property
    def standing(self) -> int:
        """How many wait for a key since before it."""
        return sum(shard.locks.standing for shard in self.shards.values())

    def settle(self) -> None:
        """Hand over local commands and start what waits for a key; what is left after so many goes on beside everything else."""
        handed, ready = self.outward.handed, self.ready
        for _ in range(SETTLED):
            if handed:
                shard, command = handed.popleft()
                self._dispatch(shard, command)
            elif ready:
                shard, following = ready.popleft()
                if self.splitting:
                    self.starts.start_apart(shard, following)
                else:
                    self.starts.start_next(shard, following)
            else:
                return

    def close(self) -> Epoch:
        """End the open epoch: write journals, add barriers, and open the next. The caller commits what is returned."""
        epoch = self.epoch
        self._put_off()
        self.keeping.close()
        self.outward.close()
        self.replays.close(epoch)
        self.epoch = Epoch(epoch.number + 1, started_ms=self.steady_ms)
        return epoch

    def _put_off(self) -> None:
        """The epoch ends before all of it was done: starts become timers that are due, commands go through their topic."""
        while self.ready:
            self.starts.start_apart(*self.ready.popleft())
        self.outward.write_handed()

    def drop(self, number: int) -> None:
        """The shard moves away or starts over: forget all of it. Requests that waited there are asked again by the engine."""
        shard = self.shards.pop(number)
        self.keeping.drop(number)
        self.limits.drop(shard)
        self.targets.unavailable.drop(number)

    def discard(self) -> None:
        """The open epoch will not be: nothing in it happened."""
        self.poison.update(self.epoch.condemned)
        self.epoch = Epoch(self.epoch.number + 1, started_ms=self.steady_ms)
        self.ready.clear()
        self.outward.discard()
        self.keeping.discard()

    def stored(self, shard: Shard, id_: str) -> Stored | None:
        """The entry of an invocation as it is now; None: there is none."""
        return self.living.stored(shard, id_)

    # --- requests ---

    def request(self, shard: Shard, pending: Pending) -> None:
        """What somebody asks of an invocation of this shard, from outside the log."""
        request = pending.request
        if isinstance(request, Settle):
            self._settling.request(shard, request, pending)
        else:
            self.starts.request(shard, request, pending)

    # --- records ---

    def record(self, shard: Shard, message: Message) -> None:
        """One input record: it starts every handler subscribed to its topic, here or, forwarded, where its key lives."""
        if self.poison and self._poisoned_record(message):
            return
        for subscription in self.subscriptions[message.topic()]:
            self._delivery.deliver(subscription, shard, message)

    def lane(self, topic: str) -> Lane | None:
        """The fast path of a topic, if its records may take it now: not while a culprit is looked for."""
        return None if self.poison or self.splitting else self._lanes.get(topic)

    def suspect(self, message: Message) -> None:
        """This record may be what aborts the epoch. A barrier never is; it comes anew with every attempt."""
        if message.topic() != self.commands_topic or not is_barrier(message):
            self.epoch.roots.append(place_of(message))

    def _poisoned_record(self, message: Message) -> bool:
        """The record aborts every epoch before it has run anything: even its dead letter, or the command that forwards it."""
        why = self.condemn(place_of(message))
        if why is None:
            return False
        why = f"the log refused to take it any further: {why}"
        if message.topic() == self.commands_topic:
            self._poisonous_command(message, why)
            return True
        for subscription in self.subscriptions[message.topic()]:
            self._rejection.record(subscription, origin_of(message), message.value(), Failure(500, why), bare=True)
        return True

    def _poisonous_command(self, message: Message, why: str) -> None:
        """A record that was forwarded is told of as what it is: by its own topic, partition and offset, not by the command's."""
        try:
            command = COMMAND.decode(message.value() or b"")
        except FormatError:
            command = Command(kind="unknown")
        subscription = self.subscription_of(command) if command.kind == "forward" else None
        if subscription is not None:
            record = Forwarded(command)
            self._rejection.record(subscription, origin_of(record), record.value(), Failure(500, why), bare=True)
            return
        self._rejection.command(message, why, with_value=False)

    # --- commands ---

    def command(self, shard: Shard, message: Message) -> None:
        """One record of the commands topic. One that cannot be read, or says what cannot be, goes to the dead letters."""
        if self.poison and self._poisoned_record(message):
            return
        try:
            command = COMMAND.decode(message.value() or b"")
        except FormatError as error:
            self._rejection.command(message, f"{error}; {REMEDY}")
            return
        flaw = self._inspection.flaw(shard, command)
        if flaw is None:
            self._dispatch(shard, command)
            return
        why = f"a command {command.kind!r}: {flaw.field}: {flaw.said}; {REMEDY}"
        self._rejection.command(message, why, field=flaw.field)
        if command.kind == "forward" and flaw.field != "id":
            self.epoch.count_again(command.id, "dead_letters")
        answer = self._inspection.answer(command, flaw)
        if answer is not None:
            self.outward.route(answer, shard)

    def _dispatch(self, shard: Shard, command: Command) -> None:
        self.touch(shard)
        match command.kind:
            case "invoke":
                self.starts.invoke(shard, command)
            case "complete":
                entry = Entry("completion", command.ref, value=command.payload, failure=command.failure)
                self._advance.complete(shard, command.id, entry)
            case "attach":
                self.starts.attach(shard, command)
            case "awakeable":
                self._settling.awakeable(shard, command)
            case "forward":
                self._forwarded(shard, command)
            case "barrier":
                shard.local = shard.local or command.id == shard.barrier
            case _:
                self._orders[command.kind](shard, command)

    def _forwarded(self, shard: Shard, command: Command) -> None:
        subscription = self.subscription_of(command)
        assert subscription is not None, "it was inspected, or forwarded by this worker"
        self._delivery.deliver(subscription, shard, Forwarded(command), may_forward=False)
