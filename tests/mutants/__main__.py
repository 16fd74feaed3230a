"""Applies each patch of this folder to a copy of the project and sees its test fail: `make mutants`.

Stands outside every record's journey: it proves the proofs. A patch's head (the lines before its first `diff` or `---`)
says what is taken out, names the rule (`Rule: 1 one writer`), and has one line `Test: tests/test_x.py::test_y` for each test
that must fail without it. All those tests are run once without any patch first: what fails anyway proves nothing.

    python -m tests.mutants [word …]      only patches whose file name has one of the words
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.broker import running_broker
from tests.mutants.copying import copy_project

ROOT = Path(__file__).resolve().parents[2]
PYTEST_FAILED = 1  # not 2 to 5: a test that could not be run or found has noticed nothing
TIMEOUT_S = 240.0
BASELINE_TIMEOUT_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch, the rule that it takes out, and the tests that must fail with it."""

    patch: Path
    rule: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        """Read a patch's head.

        Raises:
            ValueError: it names no rule, or no test.
        """
        head = re.split(r"^(?:diff |--- )", patch.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
        rules: list[str] = re.findall(r"^Rule: (.+)$", head, flags=re.MULTILINE)
        tests = tuple(re.findall(r"^Test: (\S+)$", head, flags=re.MULTILINE))
        if not tests or len(rules) != 1:
            raise ValueError(f"{patch.name}: its head needs a line 'Rule: …' and a line 'Test: tests/file.py::test_name'")
        return cls(patch, rules[0], tests)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant; `why` it is not dead, or empty; what its tests `said`."""

    mutant: Mutant
    why: str
    took_s: float
    said: str = ""


class Copy:
    """A copy of the project, in which patches come and go."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory / "project"
        self.log = directory / "pytest.log"
        self._environment = environment
        copy_project(ROOT, self.directory)

    def apply(self, patch: Path, *options: str) -> str:
        """Apply it; gives what git has to say against that."""
        done = subprocess.run(
            ["git", "apply", "-p1", *options, str(patch)], cwd=self.directory, capture_output=True, text=True, check=False
        )
        return done.stderr.strip() if done.returncode != 0 else ""

    def pytest(self, tests: Iterable[str], timeout_s: float, *options: str, keep_bytecode: bool = False) -> int | None:
        """Run these tests; the exit code, None if they did not end in time."""
        # The copy goes before the editable install, for the worker processes that tests start, too.
        roots = os.pathsep.join(str(self.directory / root) for root in ("", "sdk", "runtime", "connectors"))
        environment = {**self._environment, "PYTHONPATH": roots}
        if not keep_bytecode:  # a patch comes and goes within the second that a .pyc is dated by
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *options, *tests],
                cwd=self.directory, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                return process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # its workers and brokers, too
                    process.wait()

    def failures(self, words: str = "FAILED|ERROR") -> set[str]:
        """The tests that failed or could not be set up in the last run."""
        return set(re.findall(rf"^(?:{words}) (\S+)", self.log.read_text(errors="replace"), flags=re.MULTILINE))

    def complaint(self) -> str:
        """The first line with which the last run's test failed: it must be the rule that it misses, not a slip of the patch."""
        lines: list[str] = re.findall(r"^E +(\S.*)$", self.log.read_text(errors="replace"), flags=re.MULTILINE)
        return lines[0][:160] if lines else ""

    def tail(self) -> str:
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-15:]) if self.log.exists() else ""


def examine(mutant: Mutant, copy: Copy, sound: set[str]) -> Verdict:
    """Test one mutant."""
    began = time.monotonic()
    refused = copy.apply(mutant.patch)
    if refused:
        return Verdict(mutant, f"the patch does not apply, regenerate it: {refused}", time.monotonic() - began)
    why, said = "", ""
    for test in mutant.tests:
        if test not in sound:
            why = f"{test} fails without the patch, too, or does not exist: it proves nothing"
            break
        code = copy.pytest([test], TIMEOUT_S, "-x")
        if code is not None and not (code == PYTEST_FAILED and copy.failures("FAILED")):
            why = f"{test} passed without the rule" if code == 0 else f"{test} did not run (pytest {code})\n{copy.tail()}"
            break
        said = said or ("it hung" if code is None else copy.complaint())
    left = copy.apply(mutant.patch, "-R")
    assert not left, left
    return Verdict(mutant, why, time.monotonic() - began, said)


def sound_tests(mutants: list[Mutant], copy: Copy, console: Console) -> set[str]:
    """Those of the tests that pass as long as nothing is taken out."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    known = [test for test in tests if (copy.directory / test.split("::")[0]).exists()]
    console.print(f"{len(known)} tests without a patch first …")
    code = copy.pytest(known, BASELINE_TIMEOUT_S, keep_bytecode=True)
    if code == 0:
        return set(known)
    console.print(copy.tail(), markup=False, highlight=False)
    if code != PYTEST_FAILED:
        return {test for test in known if copy.pytest([test], TIMEOUT_S) == 0}
    failed = copy.failures()
    return {test for test in known if not any(one == test or one.startswith(f"{test}[") for one in failed)}


def table(verdicts: list[Verdict]) -> Table:
    """One line a mutant."""
    made = Table(title="Mutants: each rule taken out of the code, and the test that must notice")
    for name in ("mutant", "rule", "test", "outcome"):
        made.add_column(name, overflow="fold")
    made.add_column("seconds", justify="right")
    for verdict in verdicts:
        outcome = f"[red]SURVIVED[/red] {verdict.why.splitlines()[0]}" if verdict.why else "[green]killed[/green]"
        tests = "\n".join(test.removeprefix("tests/") for test in verdict.mutant.tests)
        made.add_row(verdict.mutant.patch.stem, verdict.mutant.rule, tests, outcome, f"{verdict.took_s:.1f}")
    return made


def main() -> int:
    """Run the mutants asked for; 1 if any survives, and if there is none to run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("words", nargs="*", help="only patches whose name has one of these")
    words: list[str] = parser.parse_args().words
    console = Console(width=None if sys.stdout.isatty() else 200)
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="odradek-mutants-", ignore_cleanup_errors=True)))
        servers = stack.enter_context(running_broker())
        environment = {**os.environ, "ODRADEK_TEST_CACHE": str(ROOT / ".cache"), "KAFKA_BOOTSTRAP_SERVERS": servers}
        copy = Copy(directory, environment)
        patches = sorted((copy.directory / "tests" / "mutants").glob("*.patch"))  # of the same moment as the code
        mutants = [Mutant.read(p) for p in patches if not words or any(word in p.stem for word in words)]
        sound = sound_tests(mutants, copy, console) if mutants else set[str]()
        for mutant in mutants:
            verdict = examine(mutant, copy, sound)
            verdicts.append(verdict)
            word = "[red]SURVIVED[/red]" if verdict.why else "[green]killed  [/green]"
            console.print(f"{word} {mutant.patch.stem} ({verdict.took_s:.1f} s)")
            console.print(f"    {verdict.why or verdict.said}", markup=False, highlight=False)
    survivors = sum(bool(verdict.why) for verdict in verdicts)
    console.print(table(verdicts))
    console.print(f"{len(verdicts) - survivors} killed, {survivors} survived")
    return int(survivors > 0 or not verdicts)


if __name__ == "__main__":
    sys.exit(main())
