"""`python -m tests.simulation`: run seeds, print a failing one with its shortened history, stop at an event of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection

from .faults import KINDS
from .world import World

TOLD = 50_000


def attempt(
    seed: int, steps: int, kinds: Collection[str] | None = None, entries: Collection[int] | None = None
) -> tuple[World, BaseException | None]:
    """Run one seed; gives its world and what was wrong."""
    world = World(seed, steps, kinds, entries)
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what was looked for)
        return world, error
    finally:
        world.close()
    return world, None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from the first on")
    parser.add_argument("--steps", type=int, default=30, help="how long a program is")
    parser.add_argument("--until", type=int, default=0, help="stop in the debugger at this event")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failing seed")
    options = parser.parse_args()
    began_s, failures, events = time.monotonic(), 0, 0
    for n in range(options.seeds):
        seed = options.seed + n
        world = World(seed, options.steps)
        world.scheduler.until = options.until
        world.verbose = options.seeds == 1
        error: BaseException | None = None
        try:
            world.run()
        except Exception as raised:  # noqa: BLE001  (as above)
            error = raised
        finally:
            world.close()
        events += world.scheduler.count
        if error is not None:
            failures += 1
            tell(seed, world, error, full=not options.keep_going)
            if not options.keep_going:
                return 1
        if sys.stdout.isatty() or (n + 1) % 100 == 0:
            rate = (n + 1) / (time.monotonic() - began_s)
            told = f"{n + 1}/{options.seeds} seeds, {rate:.1f} seeds/s, {events} events, {failures} failed"
            print(f"\r{told}", end="" if sys.stdout.isatty() else "\n", flush=True)
    took_s = time.monotonic() - began_s
    print(f"\n{options.seeds} seeds from {options.seed}: {failures} failed, {events} events in {took_s:.1f} s")
    return 1 if failures else 0


def tell(seed: int, world: World, error: BaseException, *, full: bool) -> None:
    print(f"\nseed {seed} at event {world.scheduler.count}: {type(error).__name__}: {str(error)[:1500]}")
    if full:
        import traceback

        traceback.print_exception(error, limit=-8)
        for count, now_ms, label in list(world.scheduler.history)[-TOLD:]:
            print(f"  {count:6d} {(now_ms - 1_700_000_000_000) / 1000:10.4f} {label}")
        print(f"faults: {dict(world.faults.happened)}; of {len(KINDS)} kinds {sorted(world.faults.kinds)}")


sys.exit(main())
