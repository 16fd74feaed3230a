"""Does the simulation find bugs? Each defect is put into a copy of the project, and seeds run until one fails: `make sim-mutants`.

`python -m tests.simulation.mutants [word …] [--seeds 2000]` takes only defects whose name has one of the words.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.copying import copy_project

from .defects import DEFECTS, ENGINE, PATCHES, Defect

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 7_200.0


@dataclass(frozen=True)
class Verdict:
    """What became of one defect."""

    name: str
    what: str
    seeds: int = 0
    """So many seeds it took; 0: it survived."""
    said: str = ""
    harmless: str = ""


class Bench:
    """A copy of the project, in which defects come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        copy_project(ROOT, directory)

    def patched(self, name: str, *options: str) -> str:
        """Apply a patch of tests/mutants; gives what is against it."""
        patch = ROOT / "tests" / "mutants" / f"{name}.patch"
        done = subprocess.run(
            ["git", "apply", "-p1", *options, str(patch)], cwd=self.directory, capture_output=True, text=True, check=False
        )
        return done.stderr.strip() if done.returncode != 0 else ""

    def examine(self, defect: Defect | str, seeds: int) -> Verdict:
        """Run seeds with one defect."""
        if isinstance(defect, str):
            head = (ROOT / "tests" / "mutants" / f"{defect}.patch").read_text().split("\ndiff ")[0]
            what = next(line for line in head.splitlines() if line and not re.match(r"(Rule|Test): |---", line))
            against = self.patched(defect)
            if against:
                return Verdict(defect, what, 0, f"the patch does not apply: {against}")
            try:
                return self._run(defect, what, seeds)
            finally:
                assert not self.patched(defect, "-R")
        path = self.directory / ENGINE / defect.file
        source = path.read_text()
        if source.count(defect.old) != 1:
            why = f"{defect.file} has its text {source.count(defect.old)} times: follow the code"
            return Verdict(defect.name, defect.what, 0, why)
        path.write_text(source.replace(defect.old, defect.new))
        try:
            return self._run(defect.name, defect.what, seeds, defect.harmless, defect.poison)
        finally:
            path.write_text(source)

    def _run(self, name: str, what: str, seeds: int, harmless: str = "", poison: float | None = None) -> Verdict:
        more = [] if poison is None else ["--poison", str(poison)]
        roots = os.pathsep.join(str(self.directory / root) for root in ("", "sdk", "runtime", "connectors"))
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "0", "--seeds", str(seeds), "--first", *more],
            cwd=self.directory, env={**os.environ, "PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        lines = done.stdout.strip().splitlines()
        if not lines or not lines[-1].startswith("{"):
            return Verdict(name, what, 0, f"it did not run: {done.stderr.strip()[-300:]}")
        told = json.loads(lines[-1])
        return Verdict(name, what, told["seeds"], told["said"], harmless)


def examine_all(defects: list[Defect | str], seeds: int, workers: int) -> list[Verdict]:
    """All of them, so many at a time, each worker in a copy of its own."""
    waiting, verdicts, lock = deque(defects), list[Verdict](), threading.Lock()

    def work(bench: Bench) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                defect = waiting.popleft()
            verdict = bench.examine(defect, seeds)
            with lock:
                verdicts.append(verdict)
                print(line(verdict), flush=True)

    with tempfile.TemporaryDirectory(prefix="odradek-sim-mutants-") as directory:
        threads = [threading.Thread(target=work, args=(Bench(Path(directory) / str(n)),)) for n in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    order = [defect if isinstance(defect, str) else defect.name for defect in defects]
    return sorted(verdicts, key=lambda verdict: order.index(verdict.name))


def line(verdict: Verdict) -> str:
    """A row of the table in docs/reliability.md."""
    said = verdict.said.split("\n")[0].replace("|", "/")[:100]
    outcome = str(verdict.seeds) if verdict.seeds else f"harmless: {verdict.harmless}" if verdict.harmless else "**survived**"
    return f"| {verdict.name} | {verdict.what} | {outcome} | {said} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only defects whose name has one of these")
    parser.add_argument("--seeds", type=int, default=2_000, help="so many seeds at the most")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="so many at a time")
    options = parser.parse_args()
    known: list[Defect | str] = [*PATCHES, *DEFECTS]
    chosen = [d for d in known if not options.words or any(w in (d if isinstance(d, str) else d.name) for w in options.words)]
    print(f"{len(chosen)} defects, up to {options.seeds} seeds each", flush=True)
    verdicts = examine_all(chosen, options.seeds, min(options.workers, len(chosen)))
    print("\n| defect | what it does | seeds | what was noticed |\n|---|---|---|---|")
    for verdict in verdicts:
        print(line(verdict))
    survivors = [verdict.name for verdict in verdicts if not verdict.seeds and not verdict.harmless]
    print(f"\n{len(verdicts)} defects, {len(survivors)} survived: {survivors}")
    return 1 if survivors or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
