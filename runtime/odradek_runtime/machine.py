"""The machine decides: an event comes in, its effects go into the open epoch. No I/O, no clock, no randomness of its own.

Records and commands enter here. `calls` and `waits` are its parts for requests and for time; `runner` drives handlers, `ending`
writes how they end. The worker feeds it, commits its epochs, and starts it over from the log when an epoch did not succeed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from odradek import App
from odradek._bad_input import BadInput
from odradek._definition import Handler, Subscription

from . import keys
from .calls import Calls
from .concurrency import Limits
from .coroutine_cache import CoroutineCache
from .dead_letter import letters
from .disclosure import Disclosure
from .ending import Ending
from .epoch import Epoch
from .formats import COMMAND, INVOCATION, Command, Entry, FormatError
from .formats import Invocation as Stored
from .handler_loop import HandlerLoop
from .inspection import REMEDY, Inspection
from .invocation import Live
from .inward import Forwarded, again_of, forward, is_barrier, origin_of, refused_command
from .lane import Lane
from .log.parts import place_of
from .log.port import Message, Output
from .metrics import NO_HANDLER, Metrics
from .outbox import Outbox
from .outward import Outward
from .replays import Replays
from .request import Failure
from .resets import Resets
from .revival import Revival
from .routing import id_hash, shard_of
from .runner import Runner
from .settings import Settings
from .sizes import Sizes
from .targets import Targets
from .waits import Waits

if TYPE_CHECKING:
    from .shard import Shard

logger = logging.getLogger("odradek")


SETTLED = 100
"""What one event sets going goes on within it so far; the inbox of a key, or a burst of sends, may be far longer."""


class Machine:
    """All shards of one worker. Every method works within the open epoch; `settle` finishes what an event has set going."""

    def __init__(self, app: App, shards: int, settings: Settings, targets: Targets, metrics: Metrics, loop: HandlerLoop) -> None:
        self.app = app
        self.n = shards
        self.targets = targets
        self.max_record_bytes = settings.max_record_bytes
        self.disclosure = Disclosure(shown=settings.errors_shown)
        self.sizes = Sizes(self)
        self.metrics = metrics
        self.loop = loop
        self.handlers: Mapping[str, Handler] = app.handlers()
        self.bases = {handler.service: keys.state_prefix(handler.service) for handler in self.handlers.values()}
        self.subscriptions: dict[str, list[Subscription]] = {}
        for subscription in app.subscriptions():
            self.subscriptions.setdefault(subscription.topic.name, []).append(subscription)
        self._lanes = {
            topic: Lane(self, subscriptions[0], partial(self.deliver, subscriptions[0]))
            for topic, subscriptions in self.subscriptions.items()
            if len(subscriptions) == 1 and Lane.fits(subscriptions[0])
        }
        self.commands_topic = f"{app.name}.commands"
        self.dead_letters = f"{app.name}.dead-letters"
        self.letters = letters(app)
        """The topics that take dead letters."""
        self.shards: dict[int, Shard] = {}
        self.runner = Runner(self, CoroutineCache(settings.coroutine_cache, settings.shares.suspended_bytes))
        self.revival = Revival(self)
        self.ending = Ending(self)
        self.outward = Outward(self)
        self.inspection = Inspection(self)
        self.outbox = Outbox(self)
        self.resets = Resets(self)
        self.calls = Calls(self)
        self.waits = Waits(self)
        self.limits = Limits(self, self.handlers.values())
        self.replays = Replays(self)
        self.handover_limit = settings.epoch_events
        self.now_ms = 0.0
        """The wall clock: due times, and what people see."""
        self.steady_ms = 0.0
        """Durations."""
        self.look_at_clock: Callable[[], None] = _as_it_is
        """Brings both up to date: what runs in a turn takes time. The engine's."""
        self.epoch = Epoch(1)
        self.ready: deque[tuple[Shard, str]] = deque()
        self.poison: dict[str, str] = {}
        self.bare: set[str] = set()
        """Suspects whose dead letter was refused as well: it goes without what came in."""
        self._handed: deque[tuple[Shard, Command]] = deque()
        self._barriers: set[int] = set()
        self.splitting = False
        """Epochs are kept small to find the invocation whose record the log refuses: nothing is handed over within one."""

    # --- the epoch ---

    @property
    def busy(self) -> bool:
        return bool(self._handed or self.ready)

    def touch(self, shard: Shard) -> None:
        """The epoch has something of this shard: it will carry its fence and its positions."""
        self.epoch.touched[shard.number] = shard

    def settle(self) -> None:
        """Hand over local commands and start what waits for a key; what is left after so many goes on beside everything else."""
        for _ in range(SETTLED):
            if not self.busy:
                return
            if self._handed:
                shard, command = self._handed.popleft()
                self._dispatch(shard, command)
            else:
                shard, id_ = self.ready.popleft()
                if self.splitting:
                    self.calls.start_apart(shard, id_)
                else:
                    self.calls.start_next(shard, id_)

    def close(self) -> Epoch:
        """End the open epoch: write journals, add barriers, and open the next. The caller commits what is returned."""
        epoch = self.epoch
        self._put_off()
        for live in list(epoch.journaled.values()):
            self.runner.flush(live)
        for number in self._barriers:
            shard = self.shards.get(number)
            if shard is not None:
                shard.barrier = f"{shard.incarnation}.{epoch.number}"
                barrier = COMMAND.encode(Command(kind="barrier", id=shard.barrier))
                epoch.outputs.append(Output(self.commands_topic, number, None, barrier))
        self._barriers.clear()
        self.replays.close(epoch)
        self.epoch = Epoch(epoch.number + 1, started_ms=self.steady_ms)
        return epoch

    def _put_off(self) -> None:
        """The epoch ends before all of it was done: starts become timers that are due, commands go through their topic."""
        while self.ready:
            self.calls.start_apart(*self.ready.popleft())
        self._write_handed()

    def _write_handed(self) -> None:
        """To the commands topic, in their order: what comes later must not overtake them (invariant 11)."""
        while self._handed:
            shard, command = self._handed.popleft()
            if self.outward.write(command, shard.number, shard):
                self.request_barrier(shard)

    def drop(self, number: int) -> None:
        """The shard moves away or starts over: forget all of it. Requests that waited there are asked again by the engine."""
        shard = self.shards.pop(number)
        self.runner.drop_shard(shard)
        self.limits.drop(shard)
        self.targets.unavailable.drop(number)

    def discard(self) -> None:
        """The open epoch will not be: nothing in it happened."""
        self.poison.update(self.epoch.condemned)
        self.epoch = Epoch(self.epoch.number + 1, started_ms=self.steady_ms)
        self._handed.clear()
        self.ready.clear()
        self._barriers.clear()

    def request_barrier(self, shard: Shard) -> None:
        """Local hand-over waits until a barrier written in this epoch has been read back (invariant 11)."""
        shard.local = False
        shard.barrier = ""  # an earlier one, read back before this epoch closes, lies before what this epoch writes
        self._barriers.add(shard.number)
        self.touch(shard)

    # --- records ---

    def record(self, shard: Shard, message: Message) -> None:
        """One input record: it starts every handler subscribed to its topic, here or, forwarded, where its key lives."""
        if self.poison and self._poisoned_record(message):
            return
        for subscription in self.subscriptions[message.topic()]:
            self.deliver(subscription, shard, message)

    def lane(self, topic: str) -> Lane | None:
        """The fast path of a topic, if its records may take it now: not while a culprit is looked for."""
        return None if self.poison or self.splitting else self._lanes.get(topic)

    def base(self, service: str, key: bytes) -> bytes:
        """What the state keys of an object's key begin with."""
        return self.bases[service] + keys.escape(key)

    def deliver(self, subscription: Subscription, shard: Shard, message: Message, *, may_forward: bool = True) -> None:
        """One record for one handler: it starts here or, forwarded, where its key lives."""
        handler = subscription.handler
        value = message.value()
        try:
            if subscription.key is None:
                key = message.key() or b""
                if not key and handler.keyed:
                    subscription.record_key(None, None)
                decoded = _UNDECODED
            else:
                decoded = subscription.decode(value)
                key = subscription.record_key(message.key(), decoded)
            if handler.keyed:
                if may_forward:
                    target = shard_of(key, self.n)
                    if target != shard.number:
                        self.route(forward(subscription, message, shard.topic_ids.get(message.topic(), ""), target), shard)
                        return
            else:
                key = b""
            live = self._live(subscription, shard, message, key)
            self.epoch.count("started", handler.target)
            if handler.mode == "exclusive" and shard.locks and keys.lock(live.base) in shard.locks:
                self._wait_for_key(live)
                return
            if decoded is _UNDECODED:
                decoded = subscription.decode(value)
        except BadInput as error:
            self._bad_record(shard, subscription, message, error)
            return
        if self.poison and self.poisoned(live):
            return
        if self.limits and self.limits.full(handler.target):
            self.limits.wait(live)
            return
        self.runner.start_record(live, decoded)

    def _live(self, subscription: Subscription, shard: Shard, message: Message, key: bytes) -> Live:
        """The invocation that a record starts, for the object key that was found for it."""
        handler = subscription.handler
        live = Live(self, shard, handler, key, self.base(handler.service, key), message.value())
        live.subscription, live.message, live.again = subscription, message, again_of(message)
        return live

    def _bad_record(self, shard: Shard, subscription: Subscription, message: Message, error: BadInput) -> None:
        said = self.disclosure.bad_input(error, place_of(message), subscription.handler.target)
        failure = Failure(400, said, {"field": error.field})
        barred = self.ending.barred(subscription)
        if subscription.on_error != "pause" and barred is None:
            self.ending.reject(subscription, origin_of(message), message.value(), failure)
            return
        live = self._live(subscription, shard, message, message.key() or b"")
        if subscription.handler.mode == "exclusive" and keys.lock(live.base) in shard.locks:
            self._wait_for_key(live)
        elif barred is None:
            self.ending.paused(live, "bad_input", failure.message)
        else:
            self.ending.postponed(live, barred)

    def _wait_for_key(self, live: Live) -> None:
        """The key is held: the invocation is persisted at the end of its inbox."""
        if self.stored(live.shard, live.id) is not None:  # forwarded by a torn epoch, and by the one that took its place
            logger.warning("%s is here already: the record came a second time and is left out", live.id)
            self.replays.count(live.again, "left_out")
            return
        self.runner.endure(live)
        assert live.stored is not None
        if self.ending.unkept(live, "its key is held, and it cannot wait"):
            return
        live.stored.status = "inboxed"
        self.enqueue(live.shard, keys.lock(live.base), live.stored)

    def enqueue(self, shard: Shard, lock_key: bytes, stored: Stored) -> None:
        shard.put(keys.invocation(stored.id), self.sizes.entry(stored))
        shard.enqueue(lock_key, stored.id)
        self.touch(shard)

    def poisoned(self, live: Live) -> bool:
        """Its records aborted an epoch of which it was the only invocation: its policy applies now (invariant 2)."""
        message = self.condemn(live.id)
        if message is None:
            return False
        if live.id in self.bare:
            live.strip()
        self.ending.failed(live, Failure(500, f"the log refused what it published: {message}"))
        return True

    def condemn(self, root: str) -> str | None:
        """Why the log refused a suspect; None if it is not one."""
        why = self.poison.pop(root, None)
        if why is not None:
            self.epoch.condemned[root] = why
        return why

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
            self.ending.reject(subscription, origin_of(message), message.value(), Failure(500, why), bare=True)
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
            self.ending.reject(subscription, origin_of(record), record.value(), Failure(500, why), bare=True)
            return
        self._refuse_command(message, why, with_value=False)

    # --- commands ---

    def command(self, shard: Shard, message: Message) -> None:
        """One record of the commands topic. One that cannot be read, or says what cannot be, goes to the dead letters."""
        if self.poison and self._poisoned_record(message):
            return
        try:
            command = COMMAND.decode(message.value() or b"")
        except FormatError as error:
            self._refuse_command(message, f"{error}; {REMEDY}")
            return
        flaw = self.inspection.flaw(shard, command)
        if flaw is None:
            self._dispatch(shard, command)
            return
        self._refuse_command(message, f"a command {command.kind!r}: {flaw.field}: {flaw.said}; {REMEDY}", field=flaw.field)
        if command.kind == "forward" and flaw.field != "id":
            self.replays.count(command.id, "dead_letters")
        answer = self.inspection.answer(command, flaw)
        if answer is not None:
            self.route(answer, shard)

    def _refuse_command(self, message: Message, why: str, *, field: str = "", with_value: bool = True) -> None:
        self.epoch.count("dead_letters", NO_HANDLER)
        logger.error("%s[%d]@%d -> %s: %s", message.topic(), message.partition(), message.offset(), self.dead_letters, why)
        letter = refused_command(self.dead_letters, message, why, field, with_value=with_value)
        self.epoch.outputs.append(self.sizes.letter(letter))

    def _dispatch(self, shard: Shard, command: Command) -> None:
        self.touch(shard)
        match command.kind:
            case "invoke":
                self.calls.invoke(shard, command)
            case "complete":
                entry = Entry("completion", command.ref, value=command.payload, failure=command.failure)
                self.runner.complete(shard, command.id, entry)
            case "forward":
                self._forwarded(shard, command)
            case "replay":
                self.replays.begin(shard, command)
            case "cancel_replay":
                self.replays.cancel(shard, command)
            case "reset":
                self.resets.carry_out(shard, command)
            case _:
                shard.local = shard.local or command.id == shard.barrier

    def _forwarded(self, shard: Shard, command: Command) -> None:
        subscription = self.subscription_of(command)
        assert subscription is not None, "it was inspected, or forwarded by this worker"
        self.deliver(subscription, shard, Forwarded(command), may_forward=False)

    def subscription_of(self, command: Command) -> Subscription | None:
        """What a forwarded record is for; None if the app no longer has it."""
        found = [s for s in self.subscriptions.get(command.topic, ()) if s.handler.target == command.target]
        return found[0] if found else None

    def stored(self, shard: Shard, id_: str) -> Stored | None:
        live = shard.live.get(id_)
        if live is not None:
            return live.stored
        raw = shard.read(keys.invocation(id_))
        return INVOCATION.decode(raw) if raw is not None else None

    # --- commands that go out ---

    def route(self, command: Command, source: Shard) -> None:
        """Hand a command over within this epoch if its shard is here, else write it to the commands topic (invariant 11)."""
        self.touch(source)
        self.epoch.bytes += len(command.payload or b"")
        app, command.name = command.name, ""
        if app not in ("", self.app.name):
            self.outward.abroad(app, command, source)
            return
        number = command.ref if command.kind == "forward" else id_hash(command.id) % self.n
        shard = self.shards.get(number)
        here = shard is not None and shard.phase == "open" and shard.local and not self.splitting
        if here and shard is not None and self.epoch.handovers < self.handover_limit:
            self.epoch.handovers += 1
            self._handed.append((shard, command))
            self.touch(shard)  # it does not go away before the command has come to it
            return
        self._write_handed()
        if self.outward.write(command, number, source) and shard is not None:
            self.request_barrier(shard)


_UNDECODED = object()


def _as_it_is() -> None:
    """Without an engine, time stands still."""
