"""Repositioning: the positions of an app that stands still are moved by a member of its group that does nothing else.

It joins as a worker would and, when all shards are its own, ends what dead workers have left open. Then one transaction writes the
new positions into the journals and the group's offsets, and it leaves. A worker that starts meanwhile takes shards away: then
nothing has happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from queue import Empty, Queue

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS
from odradek_runtime.log.port import (
    Committed,
    Event,
    Gained,
    Log,
    LogError,
    Losing,
    Member,
    Partition,
    Refused,
    Transaction,
    Trouble,
)

from .clearing import deletions
from .reset_plan import Move, Standing, journal_of, standing

logger = logging.getLogger("odradek")

JOIN_S = 60.0
"""Dead workers stay in the group until their sessions have run out."""
COMMIT_S = 60.0


def reposition(log: Log, app: str, id_: str, moves: Sequence[Move], by: str, *, cleared: Sequence[str] = ()) -> None:
    """Blocks. Carry out these moves: all, or none. Raises LogError when the app runs, or must run once before.

    `cleared`: objects whose state is deleted before; interrupted in that, nothing is moved, and some of it is gone.
    """
    if log.peers(app):
        raise LogError(f"workers of the app {app} run: they carry out a reset themselves", retriable=False)
    journal = journal_of(log, app)
    member = log.member(app, journal.partitions, None)
    events: Queue[Event] = Queue()
    try:
        member.join(events.put)
        stamps = _all_shards(events, journal.partitions, app)
        moved = {move.shard for move in moves}
        stands = {shard: _settled(log, member, app, shard) for shard in sorted(stamps if cleared else moved)}
        for shard, found in stands.items() if cleared else ():
            for deleting in deletions(log, app, found, stamps[shard], cleared):
                member.commit(deleting)
                _committed(events, app)
        transaction = Transaction(1, {shard: stamps[shard] for shard in moved})
        for shard in sorted(moved):
            _lay_out(transaction, app, stands[shard], id_, [move for move in moves if move.shard == shard])
        if moves:
            member.commit(transaction)
            _committed(events, app)
    finally:
        member.leave()
    if cleared:
        logger.info("%s: the state of %s is cleared, asked for by %s", id_, ", ".join(cleared), by)
    for move in moves:
        logger.info("%s: %s[%d] is moved from %d to %d, asked for by %s", id_, *move.partition, move.now, move.to, by)


def _all_shards(events: Queue[Event], shards: int, app: str) -> dict[int, int]:
    """The ownership stamps of all of them, once the group has given them. Raises LogError when it does not."""
    stamps: dict[int, int] = {}
    deadline_s = time.monotonic() + JOIN_S
    while len(stamps) < shards:
        try:
            event = events.get(timeout=max(deadline_s - time.monotonic(), 0.0))
        except Empty:
            raise LogError(
                f"the group {app} gives this command {len(stamps)} of {shards} shards: workers of it run, or have died a moment "
                "ago; look again"
            ) from None
        if isinstance(event, Gained):
            stamps.update(event.shards)
        else:
            _heed(event, app)
    return stamps


def _committed(events: Queue[Event], app: str) -> None:
    """Raises LogError unless the transaction is durable."""
    deadline_s = time.monotonic() + COMMIT_S
    while True:
        try:
            event = events.get(timeout=max(deadline_s - time.monotonic(), 0.0))
        except Empty:
            raise LogError("the log does not answer: whether the positions have moved shows the same command again") from None
        if isinstance(event, Committed):
            return
        _heed(event, app)


def _heed(event: Event, app: str) -> None:
    """What ends this. Raises LogError."""
    if isinstance(event, Losing):
        event.release()
        raise LogError(f"a worker of {app} has started meanwhile: nothing was moved; the same command moves it while it runs")
    if isinstance(event, Refused):
        raise LogError(f"the positions were not moved ({event.reason}): {event.message}")
    if isinstance(event, Trouble):
        if event.fatal:
            raise LogError(event.message, retriable=False)
        logger.warning("%s", event.message)


def _settled(log: Log, member: Member, app: str, shard: int) -> Standing:
    """Where a shard stands, once nothing is left open. Raises LogError when its last epoch is not whole."""
    member.settle(shard)
    found = standing(log, journal_of(log, app), shard)
    behind = Partition(f"{app}.journal", shard)
    torn = any(batch for batch in log.scan(behind, found.at + 1, found.end))
    if found.positions is None or torn:
        raise LogError(
            f"the last epoch of shard {shard} is torn, which a worker puts right: start the app once, and reset it while it runs",
            retriable=False,
        )
    return found


def _lay_out(transaction: Transaction, app: str, found: Standing, id_: str, moves: Sequence[Move]) -> None:
    """The shard's positions record and the group's offsets, as an epoch of a worker would write them."""
    assert found.positions is not None, "it was looked for"
    positions = POSITIONS.decode(POSITIONS.encode(found.positions))
    offsets = {Partition(place.topic, place.partition): place.offset for place in positions.inputs}
    commands = Partition(f"{app}.commands", found.shard)
    transaction.offsets[commands] = offsets.get(commands, 0)
    targets = {move.partition: move.to for move in moves}
    for place in positions.inputs:
        partition = Partition(place.topic, place.partition)
        if partition in targets and place.reset != id_:
            place.until, place.reset = max(place.until, place.offset), id_
            place.offset = transaction.offsets[partition] = targets[partition]
    transaction.journal[found.shard] = [(keys.POSITIONS, POSITIONS.encode(positions))]
