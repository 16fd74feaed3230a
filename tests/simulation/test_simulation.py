"""The simulation finds nothing: many seeds, and each seed that once found a defect of the engine."""

import pytest

from tests.simulation.many import Tally, run_many
from tests.simulation.world import World

SEEDS = 2_000
STEPS = 30
WORKERS = 2


FOUND = [
    (252, None, "a local send overtook one that lay in the commands topic, when an older barrier came back meanwhile"),
    (118, None, "who attached to a running invocation by its idempotency key was told an empty result"),
    (71, 0.03, "the end of a step, beside a poisonous record, got its innocent invocation failed"),
    (479, 0.03, "a suspect whose failure was not committed, for another reason, was forgotten, and its record failed next"),
    (662, 0.03, "the same: a command was dropped, and its caller waited for ever"),
]
"""Seeds (with how much poison) that find a defect when it is put back, and what it was."""


def check(seed: int, steps: int = STEPS, poison: float | None = None) -> None:
    """Run one seed to its end; what is wrong says which seed it was."""
    world = World(seed, steps, poison=poison)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"repeat it: make sim SEED={seed} STEPS={steps}")
        raise
    finally:
        world.close()


def test_seeds() -> None:
    tally = Tally()
    for some in run_many(range(SEEDS), STEPS, WORKERS):
        tally.add(some)

    assert tally.failed == {}, f"repeat one: make sim SEED={min(tally.failed)} STEPS={STEPS}"
    assert tally.seeds == SEEDS


@pytest.mark.parametrize(("seed", "poison", "_what"), FOUND)
def test_seeds_that_found_something(seed: int, poison: float | None, _what: str) -> None:
    check(seed, poison=poison)


def test_a_seed_repeats_exactly() -> None:
    histories = []
    for _ in range(2):
        world = World(7, STEPS)
        world.run()
        histories.append(list(world.scheduler.history))

    assert histories[0] == histories[1]
