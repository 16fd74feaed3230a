"""A verification: one shard's store held against the log, byte by byte, at one and the same position, while the app runs.

Stands beside the engine, in a thread that takes its time. A store holds its own position in the batches that it is written in, so a
copy of it is right whenever it is made. Up to that position the shard is restored once more, by the code of every take-over, and
both are walked in the order of their keys. What differs and has been written again since then is left out: the changelogs are
compacted, and the record that the store had may be gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import STORE_POSITION, StorePosition, of_a_format
from odradek_runtime.core.records.sieve import Sieve
from odradek_runtime.log.port import Log, Partition
from odradek_runtime.store.store import Change, Store, StoreError
from odradek_runtime.store.store_folder import Bench
from odradek_runtime.worker.restore.progress import Cancelled, Progress
from odradek_runtime.worker.restore.takeover import Takeover

from .jobs import Difference, Findings, Stage
from .key_words import described

SHOWN = 100
"""So many differences are shown; all are counted."""
END = b"\xff" * 8
"""Behind every key."""
STEP = 1_000
SLICE_S = 0.01
"""So long it works without a rest: other threads may have to wait for it."""
REST = 1
"""It rests as long as it has worked."""
REST_S = 1.0


class Paced(Progress):
    """A progress that rests as long as it has worked. `here` says whether there is still a reason to go on."""

    def __init__(self, here: Callable[[], bool], stopping: threading.Event) -> None:
        super().__init__()
        self._here = here
        self._stopping = stopping
        self._begun_s = time.monotonic()

    def cover(self, records: int) -> None:
        """So many in all are covered. Raises Cancelled."""
        super().cover(records)
        self.rest()

    def rest(self) -> None:
        """Let others work, if it is time. Raises Cancelled."""
        worked_s = time.monotonic() - self._begun_s
        if worked_s < SLICE_S:
            return
        if self._stopping.wait(min(worked_s * REST, REST_S)) or not self._here():
            raise Cancelled
        self._begun_s = time.monotonic()


class Verification:
    """Of one shard. `store`: the live one; `stage` is told what it does now. Everything that it makes is on the bench."""

    def __init__(self, app: str, shards: int, number: int, log: Log, takeover: Takeover, pace: Paced) -> None:
        self._topics = Partition(f"{app}.journal", number), Partition(f"{app}.state", number)
        self._kinds = {*Sieve(shards, number).kinds, keys.STATE}
        self._number = number
        self._log = log
        self._takeover = takeover
        self._pace = pace

    def run(self, store: Store, bench: Bench, stage: Callable[[Stage], None]) -> Findings:
        """Blocks. Raises StoreError, LogError, and Cancelled when the shard has gone."""
        begun_s = time.monotonic()
        stage("copying")
        copy = bench.copy(store)
        at = _position(copy)
        found = Findings(at.journal_offset, at.state_offset)
        stage("restoring")
        rebuilt = bench.empty("rebuilt")
        found.foreign = self._takeover.copy(self._number, rebuilt, at, self._pace)
        found.records = self._pace.total_records
        stage("comparing")
        self._pace.begin(0)
        differing = bench.empty("differing")
        self._compare(copy, rebuilt, differing, found)
        if found.differences:
            self._leave_out(differing, at, found)
            self._show(copy, rebuilt, differing, found)
        found.seconds = time.monotonic() - begun_s
        return found

    def _compare(self, copy: Store, rebuilt: Store, differing: Store, found: Findings) -> None:
        """Note the keys that differ in a store of their own: there may be as many as there are."""
        noted: list[Change] = []
        for key, ours, logged in _side_by_side(copy, rebuilt):
            found.keys += 1
            if found.keys % STEP == 0:
                self._pace.done_records = found.keys
                self._pace.rest()
            if ours == logged or key == keys.STORE_POSITION:
                continue
            if key[:1] not in self._kinds and (ours is None or of_a_format(ours)):
                found.unknown += 1
                continue
            found.differences += 1
            noted.append((key, b""))
            if len(noted) == STEP:
                differing.write(noted)
                noted = []
        found.keys -= 1  # the position itself
        differing.write(noted)

    def _leave_out(self, differing: Store, at: StorePosition, found: Findings) -> None:
        """What has been written behind the position, up to now, may have cost the record before it."""
        journal, state = self._topics
        for partition, start, letter in ((journal, at.journal_offset, b""), (state, at.state_offset, keys.STATE)):
            for batch in self._log.scan(partition, start, self._log.offsets(partition)[1]):
                for key in {letter + (message.key() or b"") for message in batch}:
                    if differing.get(key) is not None:
                        differing.write([(key, None)])
                        found.written_since += 1
                        found.differences -= 1
                self._pace.rest()

    def _show(self, copy: Store, rebuilt: Store, differing: Store, found: Findings) -> None:
        for key, _ in differing.scan(b"", END):
            if len(found.shown) == SHOWN:
                return
            found.shown.append(Difference(*described(key), _size(copy.get(key)), _size(rebuilt.get(key))))


def _position(copy: Store) -> StorePosition:
    raw = copy.get(keys.STORE_POSITION)
    if raw is None:
        raise StoreError("the store does not say how far it has followed the log", "unusable")
    return STORE_POSITION.decode(raw)


def _size(value: bytes | None) -> int | None:
    return None if value is None else len(value)


def _side_by_side(one: Store, other: Store) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Every key that is in either, in order, with its value in each."""
    ours, theirs = one.scan(b"", END), other.scan(b"", END)
    left, right = next(ours, None), next(theirs, None)
    while left is not None or right is not None:
        if left is not None and right is not None and left[0] == right[0]:
            yield left[0], left[1], right[1]
            left, right = next(ours, None), next(theirs, None)
        elif right is None or (left is not None and left[0] < right[0]):
            assert left is not None, "one of them is there"
            yield left[0], left[1], None
            left = next(ours, None)
        else:
            yield right[0], None, right[1]
            right = next(theirs, None)
