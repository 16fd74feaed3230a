"""Where a shard stands: the last positions record of the app's own in its journal, whoever else has written under that key.

It decides what is read next and which changelog records are whole. So where it cannot be known there is no guess: from the
beginning every record would be processed again; and from an older one, whatever came since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, OtherVersion, StorePosition
from odradek_runtime.core.records.sieve import NotOurs, Sieve
from odradek_runtime.log.port import Log, LogError, Message, Partition

from .internal import ways_out


def last_positions(
    log: Log, sieve: Sieve, partition: Partition, at: StorePosition, end: int, *, restored: bool
) -> tuple[int, bytes | None]:
    """Offset and value of the last of ours in [start, end); start - 1 and nothing if nobody has written any there.

    Raises LogError when somebody has, and ours may be gone. `restored`: records of other journals are ours, too.
    """
    start, ids = at.journal_offset, () if restored else ("", at.journal_id)
    found, ours = _as_far_as_ours(log, sieve, partition, start, end, ids)
    if ours or not found:
        return (ours[-1].offset(), ours[-1].value()) if ours else (start - 1, None)
    _, before = _as_far_as_ours(log, sieve, partition, log.offsets(partition)[0], start, ids)
    if before:  # compaction takes the older first: where this one is, no later one has gone
        return start - 1, before[-1].value()
    if others := growing(sieve, found, ()):  # of another journal, or so they say: the take-over is refused for that
        return others[-1].offset(), others[-1].value()
    topic, number = partition
    raise LogError(
        f"shard {number}: the last record of {topic}[{number}] under the key 'p', @{found[-1].offset()}, says nothing of this "
        "app's positions in its inputs, and those that were under it are gone. From the beginning every record would be processed "
        f"again, without any state: so this shard is not taken over. {ways_out(topic.rpartition('.')[0], [topic])}",
        retriable=False,
    )


def _as_far_as_ours(
    log: Log, sieve: Sieve, partition: Partition, start: int, end: int, ids: Collection[str]
) -> tuple[list[Message], list[Message]]:
    """The last records in [start, end) under the key of positions, as far back as there is one of ours; and those that are."""
    reach = 64
    while True:
        begin = max(start, end - reach)
        found = [m for batch in log.scan(partition, begin, end) for m in batch if m.key() == keys.POSITIONS]
        ours = growing(sieve, found, ids)
        if ours or begin == start:
            return found, ours
        reach *= 8


def growing(sieve: Sieve, found: Iterable[Message], journal_ids: Collection[str]) -> list[Message]:
    """Of positions records in their order, ours: of a journal of these ids (none: of any), each of a later epoch than the last.

    A reset of an app that stands still writes another one of the same epoch: it says, of some partition, that it was moved.
    """
    ours: list[Message] = []
    latest, resets = (-1, -1), frozenset[tuple[str, int, str]]()
    for message in found:
        try:
            sieve.journal(keys.POSITIONS, message.value())
        except (NotOurs, OtherVersion):
            continue
        positions = POSITIONS.decode(message.value() or b"")
        epoch = positions.incarnation, positions.epoch
        moved = frozenset((place.topic, place.partition, place.reset) for place in positions.inputs if place.reset)
        later = epoch > latest or (epoch == latest and not moved <= resets)
        if later and (not journal_ids or positions.journal_id in journal_ids):
            latest, resets = epoch, moved
            ours.append(message)
    return ours
