"""The simulation finds nothing: many seeds, and each seed that once found a defect of the engine."""

from collections.abc import Collection

import pytest

from tests.simulation.faults import ABROAD, DISKS, OTHERS, RIGHTS, Faults
from tests.simulation.many import run_some
from tests.simulation.world import World

SEEDS = 2_000
SHARE = 250
STEPS = 30


FOUND = [
    (96, None, "a local send overtook one that lay in the commands topic, when an older barrier came back meanwhile"),
    (23, None, "an epoch full of events that had done nothing was never closed"),
    (54, 0.1, "the end of a step, beside a poisonous record, got its innocent invocation failed"),
    (525, 0.1, "a suspect whose failure was not committed, for another reason, was forgotten, and its record failed next"),
    (8, None, "what ended in the middle of a replay left the timers behind that the replay had not come to"),
    (995, None, "a step ran though its invocation had ended in the epoch that would have started it"),
    (19, None, "a suspect whose dead letter was refused as well was tried for ever"),
    (1148, 0.1, "a record that a torn epoch had forwarded, too, stopped the engine: it came again behind itself"),
    (689, None, "each end of small epochs began the search for a culprit anew: it never ended"),
    (379, None, "a retry ran a step again whose result had come during the backoff: a replay took the second for the first"),
    (2, None, "the same idempotency key ran twice when the handler was named with its app and without"),
    (173, None, "an input that was made again while the app ran was read on from the old position"),
    (248, None, "a record of a topic that was made again had the id of one that was still under way"),
    (629, None, "a forwarded record took its id from the topic that its key's shard knew, made again meanwhile"),
    (46843, None, "an input that was made again while a shard was restored got the new one's position under the old one's id"),
]
"""Seeds (with how much poison) that find a defect when it is put back, and what it was; before disks lied and rights went."""

FOUND_SINCE = [
    (14, "a topic that nobody might write to for a while was taken for one that takes records of any size"),
    (108105, "a wait that began after a clock was set back ended early at the shard's next owner"),
]
"""The same, with every kind of fault but what one app may not write to the other, and what strangers write."""


def check(seed: int, steps: int = STEPS, poison: float | None = None, kinds: Collection[str] | None = None) -> None:
    """Run one seed to its end; what is wrong says which seed it was."""
    world = World(seed, steps, kinds, poison=poison)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"repeat it: make sim SEED={seed} STEPS={steps}")
        raise
    finally:
        world.close()


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_seeds(first: int) -> None:
    """In shares, which processes that run tests side by side take from each other."""
    tally = run_some(range(first, first + SHARE), STEPS)

    assert tally.failed == {}, f"repeat one: make sim SEED={min(tally.failed)} STEPS={STEPS}"
    assert tally.seeds == SHARE


@pytest.mark.parametrize(("seed", "poison", "_what"), FOUND)
def test_seeds_that_found_something(seed: int, poison: float | None, _what: str) -> None:
    check(seed, poison=poison, kinds=Faults(seed).kinds - DISKS.keys() - RIGHTS.keys() - ABROAD.keys() - OTHERS.keys())


@pytest.mark.parametrize(("seed", "_what"), FOUND_SINCE)
def test_seeds_that_found_something_since(seed: int, _what: str) -> None:
    check(seed, kinds=Faults(seed).kinds - ABROAD.keys() - OTHERS.keys())


def test_a_seed_repeats_exactly() -> None:
    histories = []
    for _ in range(2):
        world = World(7, STEPS)
        world.run()
        histories.append(list(world.scheduler.history))

    assert histories[0] == histories[1]


def test_a_worker_that_dies_leaves_no_coroutine_for_the_garbage_collector() -> None:
    world = World(7, STEPS)
    world._inputs()
    while not (living := [live for worker in world.workers for n in worker.machine.shards for live in worker.machine.living.of(n)]):
        assert world.scheduler.step()
    assert any(live.coroutine is not None for live in living)
    world.close()
    assert [live for live in living if live.coroutine is not None] == []
