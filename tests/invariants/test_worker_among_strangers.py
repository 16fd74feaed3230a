"""A worker that goes on over what others have written into its app's journal and state: no key is blocked, nobody is harmed."""

import random
from collections.abc import Callable, Iterator

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import LOCK, SLOT, TIMER, Lock, Slot, Timer
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.routing import id_hash, shard_of
from odradek_runtime.store.store import Change
from tests.invariants.hostile import BESIDE, ENDED, KEY, SHARDS, Open, app
from tests.invariants.stage import Stage
from tests.invariants.strangers import plausible, put, spoilt
from tests.records import committed


@pytest.fixture
def busy(log: EmbeddedLog) -> Iterator[Open]:
    made = Open(Stage(app(), log))
    yield made
    made.stage.close()


LOCK_KEY = b"ltally/" + KEY.encode()


def absent_holder(here: Open) -> list[Change]:
    return [(b"ltally/" + BESIDE.encode(), LOCK.encode(Lock(here.ids["absent"], 0, 3)))]


def ended_holder(here: Open) -> list[Change]:
    return [(b"ltally/" + ENDED.encode(), LOCK.encode(Lock(here.ids["ended"], 0, 0)))]


def empty_places(here: Open) -> list[Change]:
    return [(LOCK_KEY, LOCK.encode(Lock(here.ids["stepping"], 0, 2**40)))]


def strangers_in_the_inbox(here: Open) -> list[Change]:
    lock = LOCK.encode(Lock(here.ids["stepping"], 0, 9))
    places = ["absent", "stepping", "ended", "inboxed", "absent"]
    return [*((keys.slot(LOCK_KEY, n), SLOT.encode(Slot(here.ids[state]))) for n, state in enumerate(places)), (LOCK_KEY, lock)]


def timers_of_others(here: Open) -> list[Change]:
    """Of kinds that their invocations cannot have in the status that they are in, or of entries that they do not have."""
    amiss = {
        "ended": ("retry", "start", "timeout", "step", "sleep"),
        "calling": ("start", "purge", "step", "sleep"),
        "stepping": ("start", "purge", "step", "sleep"),
        "inboxed": ("retry", "purge", "timeout", "step", "sleep"),
        "backing_off": ("start", "purge", "step", "sleep"),
        "paused": ("start", "purge", "step", "sleep"),
        "scheduled": ("retry", "purge", "timeout", "step", "sleep"),
        "absent": ("retry", "start", "purge", "timeout", "step", "sleep"),
    }
    refs = {"retry": keys.REF_RETRY, "start": keys.REF_START, "purge": keys.REF_PURGE, "timeout": keys.REF_TIMEOUT}
    refs |= {"step": 7, "sleep": 8}
    return [(keys.timer(0, here.ids[s], refs[kind]), TIMER.encode(Timer(kind))) for s, kinds in amiss.items() for kind in kinds]


@pytest.mark.parametrize("plant", [absent_holder, ended_holder, empty_places, strangers_in_the_inbox, timers_of_others])
def test_records_that_contradict_each_other_block_no_key(busy: Open, plant: Callable[[Open], list[Change]]) -> None:
    """Each could be ours by itself."""
    planted = [(_home(key), key, value) for key, value in plant(busy)]
    assert all(plausible(*each) for each in planted)
    put(busy.stage.log, "open.journal", planted)
    busy.pass_epochs()  # behind the last positions they would be a torn epoch's

    busy.reopen()

    busy.judge()
    for key in (BESIDE, ENDED, KEY):
        replies = busy.stage.ask("tally/add", 80, key=key)
        busy.stage.until(lambda replies=replies: replies)


def _home(key: bytes) -> int:
    """The shard that a planted record belongs to."""
    if key[:1] == b"t":
        return id_hash(keys.split_timer(key)[1]) % SHARDS
    return shard_of(key.split(b"/")[1], SHARDS)


@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_records_of_others_harm_nobody(busy: Open, seed: int) -> None:
    rng, log = random.Random(seed), busy.stage.log
    wild = [(rng.randrange(SHARDS), rng.randbytes(rng.randrange(12)), rng.randbytes(rng.randrange(20))) for _ in range(7_000)]
    journal, state = list(committed(log, "open.journal")), list(committed(log, "open.state"))
    copies = [spoilt(rng, rng.choice(journal)) for _ in range(3_000)]
    mixed = [each for each in wild + copies if not plausible(*each)]
    rng.shuffle(mixed)
    assert len(mixed) > 8_000
    put(log, "open.journal", mixed[:5_000])
    busy.pass_epochs()
    put(log, "open.journal", mixed[5_000:])
    put(log, "open.state", wild + [spoilt(rng, rng.choice(state or journal)) for _ in range(3_000)])

    busy.reopen()

    counted = busy.stage.machine.metrics.foreign_records
    assert counted == {"open.journal": len(mixed), "open.state": 10_000}
    busy.judge()
