"""`python -m tests.simulation`: run seeds, tell a failing one with its shortened history, stop at an event of it."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from .shrink import Failure, attempt, shrink
from .world import START_MS

TOLD = 250
"""So many of the last events are told."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from the first on")
    parser.add_argument("--steps", type=int, default=30, help="how long a program is")
    parser.add_argument("--poison", type=float, default=0.0, help="how many tasks publish a record that no broker takes, 0 to 1")
    parser.add_argument("--until", type=int, default=0, help="stop in the debugger at this event")
    parser.add_argument("--kinds", help="only these kinds of faults, with commas between")
    parser.add_argument("--entries", help="only these inputs, numbers with commas between")
    parser.add_argument("--whole", action="store_true", help="do not shorten what fails")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failing seed")
    options = parser.parse_args()
    kinds = None if options.kinds is None else frozenset(filter(None, options.kinds.split(",")))
    entries = None if options.entries is None else frozenset(int(n) for n in options.entries.split(",") if n)
    began_s, events = time.monotonic(), 0
    failed: list[int] = []
    for n in range(options.seeds):
        seed = options.seed + n
        world, error = attempt(
            seed, options.steps, kinds, entries, poison=options.poison, verbose=options.seeds == 1, until=options.until
        )
        events += world.scheduler.count
        if error is not None:
            failed.append(seed)
            print(f"\nseed {seed} at event {world.scheduler.count}: {type(error).__name__}: {str(error)[:1000]}")
            if not options.keep_going:
                whole = Failure(world, error, world.faults.kinds, frozenset(range(len(world.program.entries))))
                tell(whole if options.whole else shrink(seed, options.steps, world, error), options.steps)
                return 1
        if sys.stdout.isatty() or (n + 1) % 100 == 0:
            rate = (n + 1) / (time.monotonic() - began_s)
            told = f"{n + 1}/{options.seeds} seeds, {rate:.1f} seeds/s, {events} events, {len(failed)} failed"
            print(f"\r{told}", end="" if sys.stdout.isatty() else "\n", flush=True)
    took_s = time.monotonic() - began_s
    print(f"\n{options.seeds} seeds from {options.seed}: {len(failed)} failed {failed}, {events} events in {took_s:.1f} s")
    return 1 if failed else 0


def tell(failure: Failure, steps: int) -> None:
    """The failure, its history, and how to repeat it."""
    world = failure.world
    traceback.print_exception(failure.error, limit=-6)
    for entry in world.program.entries:
        print(f"  input at {entry.at_ms:9.1f} ms: {entry.topic or 'request'} {entry.target} {entry.key} {entry.task}")
    history = list(world.scheduler.history)
    if len(history) > TOLD:
        print(f"  ... {len(history) - TOLD} events before")
    for count, now_ms, label in history[-TOLD:]:
        print(f"  {count:6d} {(now_ms - START_MS) / 1000:10.4f} {label}")
    print(f"faults that happened: {dict(world.faults.happened)}")
    kinds, entries = ",".join(sorted(failure.kinds)), ",".join(str(n) for n in sorted(failure.entries))
    print(f"again: make sim SEED={world.seed} STEPS={steps} ARGS='--whole --kinds={kinds} --entries={entries} --until=EVENT'")


if __name__ == "__main__":
    sys.exit(main())
