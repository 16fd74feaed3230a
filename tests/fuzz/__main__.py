"""`python -m tests.fuzz`: so many seconds for each decoder of strangers' bytes; what goes wrong is told, and kept in its corpus."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.fuzz.spoiling import spoilt, why_wrong
from tests.fuzz.targets import CORPUS, TARGETS, Target

A_TURN = 2_000


def fuzzed(target: Target, first: int, seconds: float) -> tuple[int, dict[bytes, str]]:
    """How many inputs it took, and one for each thing that went wrong."""
    until, found, done = time.monotonic() + seconds, dict[str, bytes](), 0
    for seed in itertools.count(first):
        for raw in spoilt(target, seed, A_TURN):
            done += 1
            if why := why_wrong(target, raw):
                found.setdefault(why.split(":")[0], raw)
        if time.monotonic() >= until:
            break
    return done, {raw: kind for kind, raw in found.items()}


def main() -> int:
    """The exit code: 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("words", nargs="*", help="only targets whose name has one of these")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first; else another one each time")
    options = parser.parse_args()
    console = Console()
    table = Table("target", "inputs", "went wrong", title=f"from seed {options.seed}")
    failed = 0
    names = [name for name in TARGETS if not options.words or any(word in name for word in options.words)]
    for number, name in enumerate(names, start=1):
        console.print(f"{number}/{len(names)} {name}: {options.seconds:g} s")
        done, found = fuzzed(TARGETS[name], options.seed, options.seconds)
        table.add_row(name, f"{done:,}", ", ".join(found.values()) or "nothing")
        if found:
            failed = 1
            with (CORPUS / f"{name}.txt").open("a") as file:
                file.writelines(f"{raw.hex()}\n" for raw in found)
    console.print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main())
