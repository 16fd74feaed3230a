"""`python -m tests.simulation`: run seeds, tell a failing one with its shortened history, stop at an event of it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from types import FrameType

from .faults import START_MS
from .many import Tally, run_many
from .shrink import Failure, attempt, shrink

TOLD = 250
"""So many of the last events are told."""
HUNG_S = 60.0
"""A seed that computes for so long hangs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from the first on")
    parser.add_argument("--steps", type=int, default=30, help="how long a program is")
    parser.add_argument("--poison", type=float, help="how many tasks publish what no broker takes, 0 to 1; else the seed says")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="so many processes")
    parser.add_argument("--until", type=int, default=0, help="stop in the debugger at this event")
    parser.add_argument("--kinds", help="only these kinds of faults, with commas between")
    parser.add_argument("--entries", help="only these inputs, numbers with commas between")
    parser.add_argument("--whole", action="store_true", help="do not shorten what fails")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failing seed")
    parser.add_argument("--first", action="store_true", help="say in one line of JSON which is the first that fails, and why")
    options = parser.parse_args()
    if options.first:
        return first(options)
    return one(options) if options.seeds == 1 else many(options)


def many(options: argparse.Namespace) -> int:
    """Seeds on all processors, with a progress line; the first that fails is told, unless it is to go on."""
    began_s, whole = time.monotonic(), Tally()
    workers = min(options.workers, options.seeds)
    runs = run_many(range(options.seed, options.seed + options.seeds), options.steps, workers, options.poison)
    for tally in runs:
        whole.add(tally)
        for seed, why in tally.failed.items():
            print(f"\nseed {seed} at {why}", flush=True)
        if whole.failed and not options.keep_going:
            runs.close()
            options.seed = min(whole.failed)
            return one(options)
        if sys.stdout.isatty() or whole.seeds % 100 == 0:
            rate = whole.seeds / (time.monotonic() - began_s)
            told = f"{whole.seeds}/{options.seeds} seeds, {rate:.1f} seeds/s, {whole.events} events, {len(whole.failed)} failed"
            print(f"\r{told}", end="" if sys.stdout.isatty() else "\n", flush=True)
    took_s, failed = time.monotonic() - began_s, sorted(whole.failed)
    print(f"\n{whole.seeds} seeds from {options.seed}: {len(failed)} failed {failed}, {whole.events} events in {took_s:.1f} s")
    return 1 if failed else 0


def first(options: argparse.Namespace) -> int:
    """Seeds one after another until one fails or hangs."""
    seeds, said = 0, ""
    signal.signal(signal.SIGVTALRM, _hung)
    for seed in range(options.seed, options.seed + options.seeds):
        signal.setitimer(signal.ITIMER_VIRTUAL, HUNG_S)
        _, error = attempt(seed, options.steps, None, None, poison=options.poison)
        if error is not None:
            seeds, said = seed + 1 - options.seed, f"{type(error).__name__}: {error}"[:300]
            break
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    print(json.dumps({"seeds": seeds, "said": said}))
    return 1 if seeds else 0


def _hung(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError("it hangs")


def one(options: argparse.Namespace) -> int:
    """One seed, told if it fails."""
    kinds = None if options.kinds is None else frozenset(filter(None, options.kinds.split(",")))
    entries = None if options.entries is None else frozenset(int(n) for n in options.entries.split(",") if n)
    world, error = attempt(
        options.seed, options.steps, kinds, entries, poison=options.poison, verbose=True, until=options.until
    )
    if error is None:
        print(f"seed {options.seed}: {world.scheduler.count} events, nothing is wrong; faults {dict(world.faults.happened)}")
        return 0
    whole = Failure(world, error, world.faults.kinds, frozenset(range(len(world.program.entries))))
    tell(whole if options.whole else shrink(options.seed, options.steps, world, error), options.steps, options.poison)
    return 1


def tell(failure: Failure, steps: int, poison: float | None) -> None:
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
    asked = "" if poison is None else f" --poison={poison}"
    only = f"--whole{asked} --kinds={kinds} --entries={entries}"
    print(f"again: make sim SEED={world.seed} STEPS={steps} ARGS='{only} --until=EVENT'")


if __name__ == "__main__":
    sys.exit(main())
