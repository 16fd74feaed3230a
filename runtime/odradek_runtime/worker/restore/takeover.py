"""The take-over of a shard: settle what its last owner left open, bring the store up to its changelogs, find its positions.

Runs beside the engine (scans block). In order, since each step relies on the one before (invariant 1): settle, then the
uncommitted end offsets, then a committed scan up to them. A store that is from other topics, beyond the log, or older than
the tombstones are kept is thrown away and built anew; one that cannot be used is set aside first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from odradek._definition import Subscription
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, STORE_POSITION, FormatError, Positions, StorePosition
from odradek_runtime.core.records.sieve import Foreign, NotOurs, Restrain, Sieve, passes, sift
from odradek_runtime.core.shard import Reset, Shard
from odradek_runtime.core.timers import Shown, Timers
from odradek_runtime.log.parts import headers_of, place_of
from odradek_runtime.log.port import Log, LogError, Member, Message, Partition, TopicInfo
from odradek_runtime.store.store import Store, StoreError
from odradek_runtime.store.store_folder import Stores

from .internal import Internal, held, made_again, refuse_another_journal, refuse_another_life
from .moved import Moved
from .own_positions import last_positions
from .progress import Cancelled, Progress

logger = logging.getLogger("odradek")

BATCH = 1_000
"""So many records of a changelog go into the store at once: the library holds the interpreter's lock meanwhile, some 2 ms."""
TOMBSTONES_MS = 86_400_000
"""Kafka's default delete.retention.ms."""
CLOSED = Positions(shards=0, incarnation=2**63, epoch=0, sequence=0, time_ms=0, inputs=[])
"""Stands for the positions that close every epoch there may be."""


class Takeover:
    """Restores shards of one app for one worker."""

    def __init__(
        self,
        app: str,
        shards: int,
        log: Log,
        member: Member,
        subscriptions: Iterable[Subscription],
        stores: Stores,
        internal: Internal | None = None,
        *,
        restored_topics: bool = False,
    ) -> None:
        self._app = app
        self._n = shards
        self._log = log
        self._member = member
        self._subscriptions = list(subscriptions)
        self._stores = stores
        self._internal = internal or Internal(app, {})
        self._restored_topics = restored_topics
        self._moved = Moved(app, log)

    def run(self, number: int, stamp: int, now_ms: Callable[[], float], progress: Progress) -> Shard:
        """Blocks. The restored shard, in phase "opening". Raises LogError (repeat it), StoreError, Cancelled."""
        committed = self._member.settle(number)
        journal, state = self._changelog("journal"), self._changelog("state")
        seen_ms = now_ms()  # the store is as old as the ends that it is brought up to, however long that takes
        ends = {topic.name: self._log.offsets(Partition(topic.name, number)) for topic in (journal, state)}
        progress.begin(0)
        store, at = self._store(number, progress, journal, state, ends, seen_ms)
        progress.begin(ends[journal.name][1] - at.journal_offset + ends[state.name][1] - at.state_offset)
        healed: dict[bytes, bytes | None] = {}
        foreign = Foreign(Partition(journal.name, number)), Foreign(Partition(state.name, number))
        mark = self._mark(store, foreign[0].partition, at, ends[journal.name][1])
        found = self._restore_journal(store, foreign[0], at, ends[journal.name][1], mark, healed, progress)
        self._check(number, found, committed)
        if not healed:  # a torn epoch may have left the two apart
            self._moved.look(found)
        self._restore_state(store, foreign[1], at, ends[state.name][1], found, healed, progress)
        at.time_ms, at.sifted = int(seen_ms), True
        store.write([(keys.STORE_POSITION, STORE_POSITION.encode(at))])
        for each in foreign:
            each.tell()
            healed.update((key, value) for key in each.over if (value := store.get(key)) is not None)
        shard = self._shard(number, stamp, store, at, found, healed)
        shard.foreign = {each.partition.topic: each.records for each in foreign if each.records}
        return shard

    def copy(self, number: int, into: Store, upto: StorePosition, progress: Progress) -> dict[str, int]:
        """Blocks. What the log says of a shard at the position that its store has reached, into a new store, and nothing else.

        By changelog: records that are not the app's own, which are left out. Raises LogError, StoreError, Cancelled.
        """
        journal, state = self._changelog("journal"), self._changelog("state")
        if (upto.journal_id, upto.state_id) != (journal.id, state.id):
            raise LogError(made_again(self._app, journal.name), retriable=False)
        first = [self._log.offsets(Partition(topic.name, number))[0] for topic in (journal, state)]
        at = StorePosition(journal.id, state.id, first[0], first[1], 0)
        progress.begin(upto.journal_offset - at.journal_offset + upto.state_offset - at.state_offset)
        foreign = Foreign(Partition(journal.name, number)), Foreign(Partition(state.name, number))
        mark = (upto.journal_offset - 1, None)  # what a store has was closed, also where compaction has since taken the mark
        self._restore_journal(into, foreign[0], at, upto.journal_offset, mark, {}, progress)
        self._restore_state(into, foreign[1], at, upto.state_offset, CLOSED, {}, progress)
        return {each.partition.topic: each.records for each in foreign if each.records}

    # --- the store ---

    def _changelog(self, name: str) -> TopicInfo:
        topic = self._log.topic(f"{self._app}.{name}")
        if topic is None:
            raise LogError(f"topic {self._app}.{name} is gone: it holds {held(name)}")  # housekeeping looks twice, too
        if self._internal.changed(topic):
            raise LogError(made_again(self._app, topic.name), retriable=False)
        return topic

    def _store(
        self,
        number: int,
        progress: Progress,
        journal: TopicInfo,
        state: TopicInfo,
        ends: dict[str, tuple[int, int]],
        now_ms: float,
    ) -> tuple[Store, StorePosition]:
        if progress.unusable is not None:
            self._replace(number, progress, progress.unusable)
        store = progress.store = progress.store or self._stores.open(number)
        at = _position(store)
        if at is not None and usable(at, journal, state, ends, now_ms):
            if not at.sifted:
                sift(Sieve(self._n, number), store)
            return store, at
        if not self._restored_topics:
            refuse_another_life(self._app, number, at, journal, state, ends[journal.name][1])
        if at is not None:
            logger.info("shard %d: its store does not fit the log any more, a full restore follows", number)
        progress.store = None
        store.close()
        self._stores.wipe(number)
        store = progress.store = self._stores.open(number)
        first = (ends[journal.name][0], ends[state.name][0])
        return store, StorePosition(journal.id, state.id, first[0], first[1], int(now_ms))

    def _replace(self, number: int, progress: Progress, why: StoreError) -> None:
        """The store cannot be used any more: out of the way with it, the changelogs have all that it had."""
        if progress.store is not None:
            progress.store.close()
            progress.store = None
        if progress.set_aside:
            self._stores.wipe(number)
        else:
            where = self._stores.set_aside(number)
            progress.set_aside = True
            kept = f"what is left of it is kept in {where}" if where else "nothing is left of it"
            logger.error("shard %d: %s; %s, and the shard is rebuilt from the log", number, why, kept)
        progress.unusable = None

    # --- the changelogs ---

    def _scan(self, partition: Partition, start: int, stop: int, progress: Progress) -> Iterator[Message]:
        done = progress.done_records
        for batch in self._log.scan(partition, start, stop):
            if progress.cancelled:
                raise Cancelled
            yield from batch
            if batch:
                progress.cover(done + batch[-1].offset() + 1 - start)
        progress.cover(done + stop - start)

    def _mark(self, store: Store, partition: Partition, at: StorePosition, end: int) -> tuple[int, bytes | None]:
        """The record that closes the last whole epoch: its offset and value."""
        sieve = Sieve(self._n, partition.partition)
        last, raw = last_positions(self._log, sieve, partition, at, end, restored=self._restored_topics)
        return last, raw if raw is not None else store.get(keys.POSITIONS)

    def _restore_journal(
        self, store: Store, foreign: Foreign, at: StorePosition, end: int, mark: tuple[int, bytes | None],
        healed: dict[bytes, bytes | None], progress: Progress,
    ) -> Positions | None:  # fmt: skip
        """Apply up to the last positions record: what lies behind it belongs to a torn epoch (invariant 8)."""
        partition = foreign.partition
        sieve, restrain = Sieve(self._n, partition.partition), Restrain(partition)
        last, raw = mark
        changes: list[tuple[bytes, bytes | None]] = []
        for message in self._scan(partition, at.journal_offset, end, progress):
            key = message.key() or b""
            if not passes(sieve, foreign, restrain, message, key, behind=message.offset() > last):
                continue
            if message.offset() > last:
                healed[key] = None
                continue
            changes.append((key, message.value()))
            if len(changes) >= BATCH:
                store.write(changes)
                changes = []
        restrain.check()
        if raw is not None:
            changes.append((keys.POSITIONS, raw))
        store.write(changes)
        # Not past what is torn before it has been put right: the next restore must see it again if this one comes to nothing.
        at.journal_offset = last + 1 if healed else end
        for key in healed:
            healed[key] = store.get(key)
        return POSITIONS.decode(raw) if raw is not None else None

    def _restore_state(
        self, store: Store, foreign: Foreign, at: StorePosition, end: int, found: Positions | None,
        healed: dict[bytes, bytes | None], progress: Progress,
    ) -> None:  # fmt: skip
        partition = foreign.partition
        sieve = Sieve(self._n, partition.partition)
        changes: list[tuple[bytes, bytes | None]] = []
        whole: dict[bytes, bool] = {}
        torn: list[bytes] = []
        sound = end
        for message in self._scan(partition, at.state_offset, end, progress):
            key = keys.STATE + (message.key() or b"")
            stamp = _stamp(message)
            try:
                sieve.state(key[1:])
                if stamp not in whole:
                    sieve.stamped(stamp)
                    whole[stamp] = _belongs(stamp, found)
            except NotOurs as why:
                self._unstamped(message, stamp)
                foreign.note(message.offset(), why, key)
                continue
            if not whole[stamp]:
                torn.append(key)
                sound = min(sound, message.offset())
                continue
            changes.append((key, message.value()))
            if len(changes) >= BATCH:
                store.write(changes)
                changes = []
        store.write(changes)
        at.state_offset = sound
        healed.update({key: store.get(key) for key in torn})
        if healed:
            logger.error("shard %d: %d changelog records of a torn epoch are put right", partition.partition, len(healed))

    def _unstamped(self, message: Message, stamp: bytes) -> None:
        """Raise LogError for a copy of the state that has lost its headers: all of it would be left out."""
        if self._restored_topics and not stamp:
            raise LogError(
                f"{place_of(message)} has no header odradek: restored topics must have the headers that they were written with; "
                "copy them anew, with their headers",
                retriable=False,
            )

    # --- the shard ---

    def _check(self, number: int, found: Positions | None, committed: int | None) -> None:
        """Whether the journal is this app's own, and the one that it wrote to last."""
        if found is not None and found.shards != self._n:
            raise LogError(
                f"the app {self._app!r} was made with {found.shards} shards and is started with {self._n}: "
                f"set App(shards={found.shards})",
                retriable=False,
            )
        refuse_another_journal(self._app, number, found, committed, self._internal.ids, restored=self._restored_topics)

    def _shard(
        self, number: int, stamp: int, store: Store, at: StorePosition, found: Positions | None, healed: dict[bytes, bytes | None]
    ) -> Shard:
        incarnation = found.incarnation + 1 if found is not None else 1
        shard = Shard(number, stamp, incarnation, found.sequence if found is not None else 0, store, at)
        if found is not None:
            shard.positions = {Partition(p.topic, p.partition): p.offset for p in found.inputs}
            shard.topic_ids = {p.topic: p.topic_id for p in found.inputs}
            shard.resets = {Partition(p.topic, p.partition): Reset(p.reset, p.until) for p in found.inputs if p.reset}
            shard.timers = Timers(Shown(found.clock, found.time_ms, tuple(found.clocks_ms)))
        shard.changes.update(healed)
        self._resolve_positions(shard)
        shard.load_locks()
        shard.load_replays()
        shard.free_locks()
        return shard

    def _resolve_positions(self, shard: Shard) -> None:
        """Every partition the shard reads has a position before its first read (invariant 10)."""
        commands = Partition(f"{self._app}.commands", shard.number)
        met = {partition.topic for partition in shard.positions}
        shard.positions[commands] = self._kept(commands, shard.positions.get(commands, 0))
        shard.topic_ids[commands.topic] = self._internal.ids.get(commands.topic, "")
        for subscription in self._subscriptions:
            topic = self._input(subscription.topic.name)
            try:
                self._resolve_input(shard, subscription, topic, topic.name in met)
            finally:  # what failed may have done so only because the topic is being made again
                self._refuse_remade(topic)
            shard.topic_ids[topic.name] = topic.id

    def _refuse_remade(self, topic: TopicInfo) -> None:
        """What was looked up may belong to another topic than was known before: it has to be looked up again."""
        known = self._input(topic.name)
        if (known.id, known.partitions) != (topic.id, topic.partitions):
            raise LogError(f"topic {topic.name} was made again while its positions were looked up")

    def _input(self, name: str) -> TopicInfo:
        topic = self._log.topic(name)
        if topic is None:
            raise LogError(f"topic {name} is gone: create it again, or take the subscription out of the app")
        return topic

    def _resolve_input(self, shard: Shard, subscription: Subscription, topic: TopicInfo, met: bool) -> None:
        same = shard.topic_ids.get(topic.name, topic.id) in ("", topic.id)
        if not same:
            logger.error("topic %s was deleted and made again: it is read from its beginning", topic.name)
            shard.resets = {p: reset for p, reset in shard.resets.items() if p.topic != topic.name}
        for gone in [p for p in shard.positions if p.topic == topic.name and p.partition >= topic.partitions]:
            logger.error("%s[%d]: the topic was made again without this partition", *gone)
            del shard.positions[gone]  # Kafka takes no offset for it: nothing would ever commit again
        for number in range(shard.number, topic.partitions, self._n):
            partition = Partition(topic.name, number)
            known = shard.positions.get(partition) if same else self._log.offsets(partition)[0]
            if known is None and met:  # a partition that was added: all of it came after the start
                known = self._log.offsets(partition)[0]
            shard.positions[partition] = self._start(partition, subscription) if known is None else self._kept(partition, known)

    def _start(self, partition: Partition, subscription: Subscription) -> int:
        first, end = self._log.offsets(partition)
        start = subscription.start_at
        if isinstance(start, datetime):
            return self._log.offset_at(partition, int(start.timestamp() * 1000))
        return end if start == "latest" else first

    def _kept(self, partition: Partition, position: int) -> int:
        first, end = self._log.offsets(partition)
        if position < first and partition.topic != f"{self._app}.commands":
            logger.error(
                "%s[%d]: records %d to %d were deleted before they were read: nothing brings them back here; raise the topic's "
                "retention.ms above the longest time that the app is away",
                *partition, position, first - 1,
            )  # fmt: skip
        if position > end:
            logger.error("%s[%d]: the log lost records %d to %d, which had been read", *partition, end, position - 1)
        return min(max(position, first), max(end, first))


def _position(store: Store) -> StorePosition | None:
    """Which changelog records it holds; None for a new one. Raises StoreError for one that something else has written."""
    raw = store.get(keys.STORE_POSITION)
    try:
        return STORE_POSITION.decode(raw) if raw is not None else None
    except FormatError as error:
        raise StoreError(f"the store holds something else: its position cannot be read ({error})", "unusable") from error


def usable(
    at: StorePosition, journal: TopicInfo, state: TopicInfo, ends: dict[str, tuple[int, int]], now_ms: float
) -> bool:
    """Whether a delta on top of this store gives the right state (invariant 3)."""
    if (at.journal_id, at.state_id) != (journal.id, state.id):
        return False
    for topic, offset in ((journal, at.journal_offset), (state, at.state_offset)):
        first, end = ends[topic.name]
        kept_ms = int(topic.config.get("delete.retention.ms", TOMBSTONES_MS))
        # Younger than it can be: the clock was set back meanwhile, and the age of the store is not known.
        if not first <= offset <= end or not -kept_ms * 0.1 <= now_ms - at.time_ms <= kept_ms * 0.9:
            return False
    return True


def _stamp(message: Message) -> bytes:
    for name, value in headers_of(message):
        if name == "odradek" and value is not None:
            return value
    return b""


def _belongs(stamp: bytes, found: Positions | None) -> bool:
    """Whether the epoch that wrote a state record was closed by its positions record."""
    if not stamp:
        return True
    try:
        incarnation, epoch = (int(part) for part in stamp.split(b"."))
    except ValueError:
        return True
    return found is not None and (incarnation, epoch) <= (found.incarnation, found.epoch)


