"""Shrinking: the same seed with fewer inputs and fewer kinds of faults, for as long as it still fails.

Leaving something out moves everything after it, so a smaller world may well be all right; whatever still fails is kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .world import World


@dataclass(frozen=True)
class Failure:
    """A world that failed, and what it was made with."""

    world: World
    error: BaseException
    kinds: frozenset[str]
    entries: frozenset[int]


def attempt(
    seed: int,
    steps: int,
    kinds: Collection[str] | None,
    entries: Collection[int] | None,
    *,
    poison: float | None = None,
    verbose: bool = False,
    until: int = 0,
) -> tuple[World, BaseException | None]:
    """Run one seed; gives its world, and what was wrong with it."""
    world = World(seed, steps, kinds, entries, poison=poison)
    world.verbose = verbose
    world.until = until
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what was looked for)
        return world, error
    finally:
        world.close()
    return world, None


def shrink(seed: int, steps: int, world: World, error: BaseException) -> Failure:
    """The failure with as little in it as can be found by leaving things out."""
    whole = frozenset(range(len(world.program.entries)))
    best = Failure(world, error, frozenset(world.faults.happened), whole)
    best = _try(best, steps, best.kinds, best.entries) or Failure(world, error, world.faults.kinds, whole)
    changed = True
    while changed:
        changed = False
        for kind in sorted(best.kinds):
            smaller = _try(best, steps, best.kinds - {kind}, best.entries)
            best, changed = smaller or best, changed or smaller is not None
        size = max(len(best.entries) // 2, 1)
        while size:
            for part in _parts(sorted(best.entries), size):
                smaller = _try(best, steps, best.kinds, best.entries - part)
                best, changed = smaller or best, changed or smaller is not None
            size //= 2
    return best


def _parts(entries: list[int], size: int) -> list[frozenset[int]]:
    return [frozenset(entries[at : at + size]) for at in range(0, len(entries), size)]


def _try(best: Failure, steps: int, kinds: frozenset[str], entries: frozenset[int]) -> Failure | None:
    """The smaller world, if it fails as well."""
    world, error = attempt(best.world.seed, steps, kinds, entries, poison=best.world.poison, verbose=True)
    if type(error) is not type(best.error):
        return None
    return None if error is None else Failure(world, error, kinds, entries)
