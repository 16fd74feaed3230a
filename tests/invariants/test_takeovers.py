"""Take-over: what a store is worth, torn epochs put right, and the order settle, end offsets, scan."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from odradek import App
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import INVOCATION, POSITIONS, STORE_POSITION, Positions, Stored, StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Headers, LogError, Output, Partition
from odradek_runtime.routing import fresh_id
from odradek_runtime.store.store import Change, RocksStore
from odradek_runtime.store.store_folder import StoreFolder
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.startup import INTERNAL, StartupError, prepare
from odradek_runtime.worker.restore.takeover import Takeover

APP = "heir"
JOURNAL, STATE = Partition(f"{APP}.journal", 0), Partition(f"{APP}.state", 0)
DAY_MS = 86_400_000
IDS = fresh_id(None, b"one---------"), fresh_id(None, b"two---------")
ONE, TWO = map(keys.invocation, IDS)
ENTRY, TORN = (INVOCATION.encode(Stored(IDS[0], "a/b", b"", payload, [])) for payload in (b"entry", b"torn"))
TORN_TWO = INVOCATION.encode(Stored(IDS[1], "a/b", b"", b"torn", []))


class Legacy:
    """What a dead owner has left: its changelogs, and perhaps its store."""

    def __init__(self, log: EmbeddedLog, directory: Path) -> None:
        self.log, self.directory = log, directory
        self._opened: list[Shard] = []
        for name, config in INTERNAL.items():
            log.create_topic(f"{APP}.{name}", 1, config)

    def write(self, partition: Partition, *records: tuple[bytes, bytes | None], headers: Headers | None = None) -> None:
        publisher = self.log.publisher(f"owner-{time.monotonic_ns()}")
        publisher.publish([Output(*partition, key, value, headers) for key, value in records], 1)
        publisher.close()

    def epoch(self, number: int, state: Sequence[Change], journal: Sequence[Change] = ()) -> None:
        """A whole one of the first incarnation: state, journal, positions last."""
        if state:
            self.write(STATE, *state, headers=stamp(1, number))
        self.write(JOURNAL, *journal, (keys.POSITIONS, positions(1, number)))

    def store(self, at: StorePosition, *pairs: tuple[bytes, bytes]) -> None:
        """The store as it was closed."""
        store = RocksStore(self.directory / "store" / APP / "0")
        store.write([*pairs, (keys.STORE_POSITION, STORE_POSITION.encode(at))])
        store.flush()
        store.close()

    def ends(self) -> StorePosition:
        """A position at the ends of the changelogs, taken just now."""
        journal, state = self.log.topic(JOURNAL.topic), self.log.topic(STATE.topic)
        assert journal is not None
        assert state is not None
        ends = (self.log.offsets(JOURNAL)[1], self.log.offsets(STATE)[1])
        return StorePosition(journal.id, state.id, *ends, int(time.time() * 1000))

    def taken_over(self, shards: int = 1) -> Shard:
        member = self.log.member(APP, 1, None)
        takeover = Takeover(APP, shards, self.log, member, [], StoreFolder(self.directory / "store" / APP))
        progress = Progress()
        try:
            shard = takeover.run(0, 1, lambda: time.time() * 1000, progress)
        except LogError:
            if progress.store is not None:
                progress.store.close()
            raise
        self._opened.append(shard)
        return shard

    def close(self) -> None:
        for shard in self._opened:
            shard.store.close()


def stamp(incarnation: int, epoch: int) -> Headers:
    return [("odradek", b"%d.%d" % (incarnation, epoch))]


def positions(incarnation: int, epoch: int, shards: int = 1) -> bytes:
    return POSITIONS.encode(Positions(shards, incarnation, epoch, 0, 0, []))


@pytest.fixture
def legacy(log: EmbeddedLog, tmp_path: Path) -> Iterator[Legacy]:
    made = Legacy(log, tmp_path)
    yield made
    made.close()


def test_a_store_that_fits_costs_the_delta(legacy: Legacy) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.store(legacy.ends(), (b"so/k/n", b"1"), (b"so/only/here", b"kept"))
    legacy.epoch(2, [(b"o/k/n", b"2")])

    shard = legacy.taken_over()

    assert (shard.read(b"so/k/n"), shard.read(b"so/only/here")) == (b"2", b"kept")


def other_journal(at: StorePosition) -> StorePosition:
    return StorePosition("another", at.state_id, at.journal_offset, at.state_offset, at.time_ms)


def other_topics(at: StorePosition) -> StorePosition:
    return StorePosition("another", "another", at.journal_offset, at.state_offset, at.time_ms)


def beyond_the_journal(at: StorePosition) -> StorePosition:
    return StorePosition(at.journal_id, at.state_id, at.journal_offset + 1, at.state_offset, at.time_ms)


def beyond_the_state(at: StorePosition) -> StorePosition:
    return StorePosition(at.journal_id, at.state_id, at.journal_offset, at.state_offset + 1, at.time_ms)


def a_day_old(at: StorePosition) -> StorePosition:
    return StorePosition(at.journal_id, at.state_id, at.journal_offset, at.state_offset, at.time_ms - DAY_MS)


@pytest.mark.parametrize("misfit", [other_journal, other_topics, beyond_the_journal, beyond_the_state, a_day_old])
def test_a_store_that_does_not_fit_is_built_anew(legacy: Legacy, misfit: Callable[[StorePosition], StorePosition]) -> None:
    """Topics made again under the same name, a log that lost its end, tombstones that are gone: none shows in the store."""
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.store(misfit(legacy.ends()), (b"so/k/n", b"0"), (b"so/only/here", b"of another log"))

    shard = legacy.taken_over()

    assert (shard.read(b"so/k/n"), shard.read(b"so/only/here")) == (b"1", None)


def test_a_torn_epoch_is_left_out_and_put_right(legacy: Legacy) -> None:
    """Half of epoch 2 became visible, without the positions that close it: its values never happened."""
    legacy.epoch(1, [(b"o/k/n", b"1"), (b"o/other/n", b"1")], [(ONE, ENTRY)])
    legacy.write(STATE, (b"o/k/n", b"torn"), (b"o/new/n", b"torn"), headers=stamp(1, 2))
    legacy.write(JOURNAL, (ONE, TORN), (TWO, TORN_TWO))

    shard = legacy.taken_over()

    assert shard.store.get(b"so/k/n") == b"1"
    assert shard.store.get(b"so/other/n") == b"1"
    assert shard.store.get(b"so/new/n") is None
    assert shard.store.get(ONE) == ENTRY
    assert shard.store.get(TWO) is None
    healed = {b"so/k/n": b"1", b"so/new/n": None, ONE: ENTRY, TWO: None}
    assert shard.changes == healed, "written again, so that the next restore and every reader of the topic see the truth"


def test_a_torn_epoch_is_put_right_by_the_next_owner_if_this_one_does_not_come_to_it(legacy: Legacy) -> None:
    """The store is closed, its position with it, before the epoch that would have put things right has committed."""
    legacy.epoch(1, [(b"o/k/n", b"1")], [(ONE, ENTRY)])
    legacy.write(STATE, (b"o/k/n", b"torn"), headers=stamp(1, 2))
    legacy.write(JOURNAL, (ONE, TORN))
    first = legacy.taken_over()
    healed = dict(first.changes)
    first.store.flush()
    first.store.close()

    assert legacy.taken_over().changes == healed == {b"so/k/n": b"1", ONE: ENTRY}


def test_a_torn_epoch_behind_a_whole_one_of_a_store_is_left_out_too(legacy: Legacy) -> None:
    legacy.epoch(1, [(b"o/k/n", b"1")])
    legacy.store(legacy.ends(), (b"so/k/n", b"1"), (keys.POSITIONS, positions(1, 1)))
    legacy.write(STATE, (b"o/k/n", b"torn"), headers=stamp(1, 2))

    shard = legacy.taken_over()

    assert shard.store.get(b"so/k/n") == b"1"
    assert shard.changes == {b"so/k/n": b"1"}


def test_the_number_of_shards_stands_in_the_journal(legacy: Legacy) -> None:
    legacy.epoch(1, [])

    with pytest.raises(LogError, match=r"was made with 1 shards and is started with 2: set App\(shards=1\)") as refused:
        legacy.taken_over(shards=2)

    assert not refused.value.retriable


def test_another_number_of_shards_refuses_to_start(log: EmbeddedLog) -> None:
    prepare(App("fixed", shards=2), log, make="inputs")

    with pytest.raises(StartupError, match=r"App\('fixed', shards=3\), but fixed.commands has 2 partitions"):
        prepare(App("fixed", shards=3), log, make="inputs")

    assert prepare(App("fixed"), log, make="inputs") == 2, "without a number it takes what is there"


def test_a_restore_that_is_repeated_is_never_more_than_done(legacy: Legacy) -> None:
    """Each attempt counts from nothing: six of them said 560 %."""
    for number in range(1, 30):
        legacy.epoch(number, [(b"account/a/total", b"%d" % number)])
    progress = Progress()
    takeover = Takeover(APP, 1, legacy.log, legacy.log.member(APP, 1, None), [], StoreFolder(legacy.directory / "store" / APP))
    for _ in range(6):
        takeover.run(0, 1, lambda: time.time() * 1000, progress)
        assert progress.done_records == progress.total_records
        progress.cover(progress.total_records * 5)
        assert progress.done_records == progress.total_records
    assert progress.store is not None
    progress.store.close()
