"""Replays: ranges of topics that are delivered again. What of them a machine has to do with: it is told, delivers, and counts.

A replay has one part for each partition, a row in the journal of the shard that reads the partition. A command begins it, a
command cancels it, and it moves on in the epoch of what it has delivered, as an input's position does: so each record is delivered
once, whatever dies meanwhile. `replaying` feeds it what `rereader` reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from msgspec.structs import replace

from odradek._definition import Subscription
from odradek_runtime.core.epoch import Epoch
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import REPLAY, REPLAY_TALLY, Command, Replay, ReplayTally
from odradek_runtime.core.records.inward import Again, origin_of
from odradek_runtime.core.records.redrive import NoRecord, Redriven
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.parts import place_of
from odradek_runtime.log.port import Message

from .delivery import Delivery
from .rejection import Rejection

logger = logging.getLogger("odradek")

KEPT_MS = 7 * 86_400_000
"""So long it is known of a replay that it has been: the same order again does nothing."""
NAMED = 10
"""So many records that a replay leaves out are named in the log: a topic of dead letters may be full of another app's."""


class Replays:
    """Of one machine's shards."""

    def __init__(self, scope: Scope, delivery: Delivery, rejection: Rejection) -> None:
        self._scope = scope
        self._delivery = delivery
        self._rejection = rejection
        self.changed = False
        """A part has begun or ended: whoever reads for them has to look."""
        self._named: dict[str, int] = {}
        """By replay: how many of those that it has left out were named."""

    # --- orders ---

    def begin(self, shard: Shard, command: Command) -> None:
        """A part begins, unless it has begun before."""
        part = REPLAY.decode(command.payload or b"")
        assert part.next == part.first, "it was inspected"
        key = keys.replay(part.id, part.partition)
        if key in shard.replays:
            return
        self._forget_old(shard)
        part.begun_ms = int(self._scope.now_ms)
        shard.replays[key] = part
        if part.keys:
            self._write(self._scope.epoch, shard, keys.replay_order(part.id, part.partition), REPLAY.encode(part))
        self.put(shard, part)
        self.changed = True
        logger.debug(
            "replay %s begins: %s[%d] from %d to %d, asked for by %s",
            part.id, part.topic, part.partition, part.first, part.stop, part.asked_by or "nobody that is known",
        )  # fmt: skip

    def cancel(self, shard: Shard, command: Command) -> None:
        """What it has delivered goes on, and nothing more is delivered."""
        by = command.target
        for part in shard.replays.values():
            if part.id == command.id and part.status == "running":
                self.end(shard, part, "cancelled", f"asked for by {by}" if by else "")

    def end(self, shard: Shard, part: Replay, status: str, reason: str = "") -> None:
        """Nothing more of this part is delivered."""
        part.status, part.reason, part.ended_ms = status, reason, int(self._scope.now_ms)
        self.put(shard, part)
        self.changed = True

    def put(self, shard: Shard, part: Replay) -> None:
        """Where the part stands now is committed with this epoch. The keys that it names stand in its order, once."""
        row = replace(part, keys=[]) if part.keys else part
        self._write(self._scope.epoch, shard, keys.replay(part.id, part.partition), REPLAY.encode(row))
        self._scope.touch(shard)

    def _write(self, epoch: Epoch, shard: Shard, key: bytes, value: bytes | None) -> None:
        shard.put(key, value)
        epoch.replay_rows[shard.number, key] = value

    def _forget_old(self, shard: Shard) -> None:
        before_ms = self._scope.now_ms - KEPT_MS
        for key, part in list(shard.replays.items()):
            if part.status != "running" and part.ended_ms < before_ms:
                del shard.replays[key]
                self._named.pop(part.id, None)
                self._write(self._scope.epoch, shard, key, None)
                if part.keys:
                    self._write(self._scope.epoch, shard, keys.replay_order(part.id, part.partition), None)

    def _forget_tallies(self, epoch: Epoch, shard: Shard) -> None:
        """Those of replays that have no part here (any more), a week after they were last counted."""
        before_ms = self._scope.now_ms - KEPT_MS
        old = [id_ for id_, tally in shard.replay_tallies.items() if tally.at_ms < before_ms]
        with_parts = {part.id for each in self._scope.shards.values() for part in each.replays.values()} if old else ()
        for id_ in old:
            if id_ not in with_parts:
                del shard.replay_tallies[id_]
                self._write(epoch, shard, keys.replay_tally(id_), None)

    # --- records ---

    def deliver(self, shard: Shard, part: Replay, message: Message) -> None:
        """One record of the range: to every handler that subscribes, or to the one that is meant."""
        if part.keys and message.key() not in part.keys:
            part.passed += 1
            return
        part.records += 1
        scope = self._scope
        poison = scope.condemn(place_of(message)) if scope.poison else None
        for subscription, record in self._starts(part, message):
            scope.epoch.count_replayed(part.id, "started")
            again = Again(record, part.id if record is message else f"{part.id}@{message.partition()}/{message.offset()}")
            if poison is None:
                self._delivery.deliver(subscription, shard, again)
            else:  # as a live record that aborts every epoch before it has run anything
                failure = Failure(500, f"the log refused to take it any further: {poison}")
                self._rejection.record(subscription, origin_of(again), record.value(), failure, bare=True)

    def _starts(self, part: Replay, message: Message) -> Iterator[tuple[Subscription, Message]]:
        """What the record starts, and as which record."""
        subscriptions = self._scope.subscriptions
        if part.topic in subscriptions:
            for subscription in subscriptions[part.topic]:
                if part.handler in ("", subscription.handler.target):
                    yield subscription, message
            return
        try:
            record = Redriven(message)
        except NoRecord as why:
            self._left_out(part, message, str(why))
            return
        if record.app not in ("", self._scope.app.name):
            self._left_out(part, message, f"it is a dead letter of the app {record.app[:60]!r}, which has to send it back itself")
            return
        if part.handler not in ("", record.target):
            part.records, part.passed = part.records - 1, part.passed + 1
            return
        found = [each for each in subscriptions.get(record.topic(), ()) if each.handler.target == record.target]
        if not found:
            self._left_out(part, message, f"{record.target} does not subscribe to {record.topic()} any longer")
        for subscription in found:
            yield subscription, record

    def _left_out(self, part: Replay, message: Message, why: str) -> None:
        epoch = self._scope.epoch
        epoch.count_replayed(part.id, "started")
        epoch.count_replayed(part.id, "left_out")
        self._named[part.id] = named = self._named.get(part.id, 0) + 1
        if named <= NAMED:
            more = "; others are left out without a word, and counted" if named == NAMED else ""
            logger.warning("replay %s: %s is left out: %s%s", part.id, place_of(message), why, more)

    # --- what becomes of them ---

    def close(self, epoch: Epoch) -> None:
        """The epoch ends: what it has counted stands in the journal of one of its shards. All shards' numbers add up."""
        if not epoch.replayed:
            return
        shard = epoch.touched[min(epoch.touched)]
        for (id_, what), number in epoch.replayed.items():
            tally = shard.replay_tallies.setdefault(id_, ReplayTally(id_))
            setattr(tally, what, getattr(tally, what) + number)
        for id_ in {id_ for id_, _ in epoch.replayed}:
            shard.replay_tallies[id_].at_ms = int(self._scope.now_ms)
            self._write(epoch, shard, keys.replay_tally(id_), REPLAY_TALLY.encode(shard.replay_tallies[id_]))
        self._forget_tallies(epoch, shard)

    def committed(self, epoch: Epoch) -> None:
        """What the epoch has written of replays is durable: it may be shown."""
        for (number, key), value in epoch.replay_rows.items():
            shown = epoch.touched[number].replay_rows
            if value is None:
                shown.pop(key, None)
                continue
            shown[key] = value
            if key[:1] == b"r":
                _tell_end(REPLAY.decode(value))


def _tell_end(part: Replay) -> None:
    """One line for each part that has ended: it is not written again after that."""
    if part.status == "running":
        return
    logger.log(
        logging.ERROR if part.status == "broken" else logging.INFO,
        "replay %s of %s[%d] is %s%s: of offsets %d to %d up to %d, %d records delivered, %d passed over, %d offsets were gone; "
        "begun by %s",
        part.id, part.topic, part.partition, part.status, f" ({part.reason})" if part.reason else "",
        part.first, part.stop, part.next, part.records, part.passed, part.gone, part.asked_by or "nobody that is known",
    )  # fmt: skip
