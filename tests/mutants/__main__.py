"""Applies each patch of this folder to a copy of the project and sees its test fail: `make mutants`.

Stands outside every record's journey: it proves the proofs. A patch's head (the lines before its first `diff` or `---`)
says what is taken out, and has one line `Test: tests/test_x.py::test_y` naming what must fail without it.

    python -m tests.mutants [word …]      only patches whose file name has one of the words
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("sdk", "runtime", "connectors", "schemas", "tests", "examples", "bench", "pyproject.toml", "README.md")
PYTEST_FAILED = 1  # not 2 to 5: a test that could not be run or found has noticed nothing
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch and the tests that must fail with it."""

    patch: Path
    tests: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        """Read a patch's head.

        Raises:
            ValueError: it names no test.
        """
        head = re.split(r"^(?:diff |--- )", patch.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
        tests = tuple(re.findall(r"^Test: (\S+)$", head, flags=re.MULTILINE))
        if not tests:
            raise ValueError(f"{patch.name}: its head needs a line 'Test: tests/file.py::test_name'")
        return cls(patch, tests)

    def survives(self, directory: Path, log: Path) -> str:
        """Test the mutant in a fresh copy; return why it is not dead, or an empty string if its tests fail."""
        _copy_project(directory)
        applied = subprocess.run(
            ["git", "apply", "-p1", str(self.patch)],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if applied.returncode != 0:
            return f"the patch does not apply: {applied.stderr.strip()}"
        for test in self.tests:
            code = _pytest(test, directory, log)
            if code != PYTEST_FAILED:
                return f"{test} passed without the invariant" if code == 0 else f"{test} did not run (pytest {code})"
        return ""


def main() -> int:
    """Run the mutants asked for; 1 if any survives, and if there is none to run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("words", nargs="*", help="only patches whose name has one of these")
    words: list[str] = parser.parse_args().words
    patches = sorted(Path(__file__).parent.glob("*.patch"))
    chosen = [Mutant.read(p) for p in patches if not words or any(word in p.stem for word in words)]
    survivors = sum(not _report(mutant) for mutant in chosen)
    print(f"{len(chosen) - survivors} killed, {survivors} survived")
    return int(survivors > 0 or not chosen)


def _report(mutant: Mutant) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="odradek-mutant-") as directory:
        log = Path(directory) / "pytest.log"
        reason = mutant.survives(Path(directory) / "project", log)
        print(
            f"{'SURVIVED' if reason else 'killed  '} {mutant.patch.stem} ({time.monotonic() - began:.0f} s)", flush=True
        )
        if reason:
            print(f"    {reason}")
            print("".join(log.read_text().splitlines(keepends=True)[-15:]) if log.exists() else "")
    return not reason


def _copy_project(directory: Path) -> None:
    directory.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, directory / name, symlinks=True, ignore=ignored)
        elif source.exists():
            shutil.copy2(source, directory / name)


def _pytest(test: str, directory: Path, log: Path) -> int:
    # The copy goes before the editable install, for the worker processes that tests start, too.
    roots = os.pathsep.join(str(directory / root) for root in ("", "sdk", "runtime", "connectors"))
    environment = {**os.environ, "PYTHONPATH": roots, "ODRADEK_TEST_CACHE": str(ROOT / ".cache")}
    with log.open("ab") as output:
        try:
            return subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test],
                cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=TIMEOUT_S,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return PYTEST_FAILED  # a hang is a way to notice


if __name__ == "__main__":
    sys.exit(main())
