"""Many seeds on all processors: chunks of seeds go to processes of their own, and each comes back with what failed in it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from .shrink import attempt

CHUNK = 20


@dataclass
class Tally:
    """What became of some seeds."""

    seeds: int = 0
    events: int = 0
    failed: dict[int, str] = field(default_factory=dict[int, str])
    """By seed, what was wrong."""

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.events += other.events
        self.failed.update(other.failed)


def run_some(seeds: range, steps: int, poison: float | None = None) -> Tally:
    """Run seeds one after another, in this process."""
    tally = Tally()
    for seed in seeds:
        world, error = attempt(seed, steps, None, None, poison=poison)
        tally.seeds += 1
        tally.events += world.scheduler.count
        if error is not None:
            tally.failed[seed] = f"event {world.scheduler.count}: {type(error).__name__}: {str(error)[:1000]}"
    return tally


def run_many(seeds: range, steps: int, workers: int, poison: float | None = None) -> Generator[Tally]:
    """Run seeds in so many processes; gives what became of each chunk as it ends. Close it to stop."""
    if workers == 1:
        for at in range(0, len(seeds), CHUNK):
            yield run_some(seeds[at : at + CHUNK], steps, poison)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        chunks = [pool.submit(run_some, seeds[at : at + CHUNK], steps, poison) for at in range(0, len(seeds), CHUNK)]
        for chunk in as_completed(chunks):
            yield chunk.result()
    finally:
        pool.shutdown(cancel_futures=True)
