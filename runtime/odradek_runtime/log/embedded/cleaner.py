"""What keeps the folder from growing for ever: retention of queues, compaction of changelogs, room given back.

One thread, in bounded turns, at most a quarter of its time. Compaction walks each compacted partition once: it keeps a
row per key that says where the key's newest record is, deletes the one before, and remembers in the same write how far
it came. Offsets never change. A tombstone stays for `delete.retention.ms` after the walk has passed it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from rocksdict import Rdict, WriteBatch

from odradek_runtime.avro_long import long
from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.catalog import Catalog, Tail, Topic, block_range, decode_block
from odradek_runtime.log.embedded.disk import get_all, rows_between
from odradek_runtime.log.embedded.framing import decode_long, encode_pair, record_key
from odradek_runtime.log.port import LogError

RECORDS_A_TURN = 5_000
WORTH_WALKING = 5_000
"""Fewer new records than these are left for later: several values of one key then cost one deletion."""
WORTH_COMPACTING = 200_000
"""So many deleted rows are worth rewriting files for."""
POINT_DELETES = 10_000
"""A longer run of records is deleted as one range: ranges are cheap to write and dear to read."""
_log = logging.getLogger("odradek.log")


class Cleaner:
    """The thread and its turns. `clock`: Unix seconds."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._walked: dict[bytes, int] = {}
        self._deleted: dict[bytes, int] = {}
        self._closed = threading.Event()
        self._turn_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, interval_s: float) -> None:
        self._thread = threading.Thread(target=self._run, args=(interval_s,), name="odradek-clean", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Blocks until the thread has ended."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, interval_s: float) -> None:
        pause_s = interval_s
        while not self._closed.wait(pause_s):
            began_s = time.monotonic()
            try:
                self._catalog.reopen()
                more = self.turn(WORTH_WALKING)
            except LogError as error:
                _log.warning("cleaning the embedded log: %s", error)
                more = False
            pause_s = min(interval_s, max(0.005, 3 * (time.monotonic() - began_s))) if more else interval_s

    def turn(self, worth: int = 1) -> bool:
        """One bounded piece of work for every partition; True while there is more."""
        more = False
        with self._turn_lock:
            for topic in list(self._catalog.topics.values()):
                for tail in topic.tails:
                    if self._closed.is_set():
                        return False
                    if topic.compacted:
                        more |= self._walk(topic, tail, worth)
                        more |= self._bury(topic, tail)
                    if topic.deleted:
                        more |= self._retain(topic, tail)
                    self._give_room_back(topic, tail)
        return more

    def _walk(self, topic: Topic, tail: Tail, worth: int) -> bool:
        """Compact the next records; True while enough of them are left."""
        place = rows.partition_row(b"C", topic.number, tail.number)
        if place not in self._walked:
            self._walked[place] = self._catalog.number(place)
        start = max(self._walked[place], tail.first)
        end = tail.end
        if end - start < worth:
            return False
        stop = min(end, start + RECORDS_A_TURN)
        batch = WriteBatch(raw_mode=True)
        with self._catalog.disk.reading() as db:
            newest, dropped = _newest(db, tail, start, stop)
            indexes = [rows.partition_row(b"K", topic.number, tail.number) + key for key in newest]
            befores = get_all(db, indexes)
        dropped += [decode_long(before) for before in befores if before is not None]
        for offset in dropped:
            batch.delete(tail.records + rows.pack_offset(offset))
        for index, (offset, tombstone) in zip(indexes, newest.values(), strict=True):
            batch.put(index, long(offset))
            if tombstone:
                due_ms = int(self._clock() * 1000) + topic.tombstone_ms
                batch.put(rows.partition_row(b"D", topic.number, tail.number) + rows.pack_offset(offset), long(due_ms))
        batch.put(place, long(stop))
        self._catalog.disk.write(batch, durable=False)
        self._walked[place] = stop
        self._count(tail, len(dropped))
        return end - stop >= worth

    def _bury(self, topic: Topic, tail: Tail) -> bool:
        """Delete tombstones whose time has come; True when there may be more."""
        now_ms = int(self._clock() * 1000)
        graves = rows.partition_row(b"D", topic.number, tail.number)
        batch = WriteBatch(raw_mode=True)
        count = 0
        with self._catalog.disk.reading() as db:
            for row, due in rows_between(db, graves, graves + b"\xff" * 8):
                if decode_long(due) > now_ms or count == RECORDS_A_TURN:
                    break
                count += 1
                batch.delete(row)
                _bury_one(db, batch, topic, tail, row[-8:])
        if count:
            self._catalog.disk.write(batch, durable=False)
            self._count(tail, count)
        return count == RECORDS_A_TURN

    def _retain(self, topic: Topic, tail: Tail) -> bool:
        """Drop the oldest blocks that are too old, or too many; True when there may be more."""
        begin, behind = block_range(topic, tail)
        oldest_ms = int(self._clock() * 1000) - topic.retention_ms if topic.retention_ms >= 0 else None
        excess = self._excess_bytes(topic, tail)
        before, count = 0, 0
        with self._catalog.disk.reading() as db:
            for row, raw in rows_between(db, begin, behind):
                size, newest_ms = decode_block(raw)
                too_old = oldest_ms is not None and newest_ms < oldest_ms
                if count == RECORDS_A_TURN or not (too_old or excess >= size):
                    break
                count += 1
                excess -= size
                before = rows.offset_in(row) + 1
        with self._catalog.lock:
            if oldest_ms is not None and tail.block_start <= max(before, tail.first) < tail.end:
                before = tail.end if tail.block_newest_ms < oldest_ms else before
            dropped = drop_before(self._catalog, topic, tail, before)
        self._count(tail, dropped)
        return count == RECORDS_A_TURN

    def _excess_bytes(self, topic: Topic, tail: Tail) -> int:
        """By how much the partition is larger than `retention.bytes`."""
        if topic.retention_bytes < 0:
            return 0
        with self._catalog.disk.reading() as db:
            blocks = sum(decode_block(raw)[0] for _, raw in rows_between(db, *block_range(topic, tail)))
        return blocks + tail.block_bytes - topic.retention_bytes

    def _count(self, tail: Tail, deleted: int) -> None:
        if deleted:
            self._deleted[tail.records] = self._deleted.get(tail.records, 0) + deleted

    def _give_room_back(self, topic: Topic, tail: Tail) -> None:
        if self._deleted.get(tail.records, 0) >= WORTH_COMPACTING:
            self._deleted[tail.records] = 0
            for kind in (b"R", b"K", b"D"):
                prefix = rows.partition_row(kind, topic.number, tail.number)
                self._catalog.disk.compact(prefix, prefix + b"\xff" * 8)


def _newest(db: Rdict, tail: Tail, start: int, stop: int) -> tuple[dict[bytes, tuple[int, bool]], list[int]]:
    """For each key its newest offset in this range and whether it is a tombstone; and the superseded offsets."""
    newest: dict[bytes, tuple[int, bool]] = {}
    dropped: list[int] = []
    for row, raw in rows_between(db, tail.records + rows.pack_offset(start), tail.records + rows.pack_offset(stop)):
        key, tombstone = record_key(raw)
        if key is None:
            continue
        before = newest.get(key)
        if before is not None:
            dropped.append(before[0])
        newest[key] = (rows.offset_in(row), tombstone)
    return newest, dropped


def _bury_one(db: Rdict, batch: WriteBatch, topic: Topic, tail: Tail, offset: bytes) -> None:
    """Delete the tombstone at this offset with its key's index, unless a newer record has replaced it already."""
    raw = db.get(tail.records + offset)
    key = None if raw is None else record_key(raw)[0]
    if key is None:
        return
    index = rows.partition_row(b"K", topic.number, tail.number) + key
    newest = db.get(index)
    if newest is not None and rows.pack_offset(decode_long(newest)) == offset:
        batch.delete(index)
    batch.delete(tail.records + offset)


def drop_before(catalog: Catalog, topic: Topic, tail: Tail, before: int) -> int:
    """Delete the records below this offset (call it under the catalog's lock); how many offsets that were."""
    first = tail.first
    if before <= first:
        return 0
    batch = WriteBatch(raw_mode=True)
    batch.put(rows.partition_row(b"P", topic.number, tail.number), encode_pair(before, tail.end))
    if before - first > POINT_DELETES:
        batch.delete_range(tail.records + rows.pack_offset(first), tail.records + rows.pack_offset(before))
    else:
        for offset in range(first, before):
            batch.delete(tail.records + rows.pack_offset(offset))
    begin, _ = block_range(topic, tail)
    with catalog.disk.reading() as db:
        for row, _ in rows_between(db, begin, begin[:-8] + rows.pack_offset(before)):
            batch.delete(row)
    # Before the write, so that no reader takes the missing records for a gap that compaction left.
    tail.first = before
    try:
        catalog.disk.write(batch, durable=False)
    except LogError:
        tail.first = first
        raise
    return before - first
