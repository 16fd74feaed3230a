"""mypy and pyright, strict, over the programs: eight are clean, `negative.py` errs in exactly the lines marked `# E`.

The programs are the contract of the public surface, and so is `revealed.json`: what each checker inferred for every
`reveal_type` of `negative.py` when the surface was a stub. Each checker runs once over all programs.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
SDK = Path(__file__).parents[2] / "sdk"
MARK = re.compile(r"# E\b")
QUALIFIER = re.compile(r"\b(?:[a-z_]\w*\.)+(?=\w)")
CLEAN = {"approval", "enrich", "fanout", "ratelimit", "readme", "saga", "test_approval", "webhook"}
BAD_DEFAULT = 11
"""`State("n", int, default="0")`: mypy objects, pyright infers State[int | str]."""


@dataclass
class Verdict:
    """What a checker said: the lines in error of each program, and the types it revealed in `negative.py`."""

    errors: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    revealed: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def add(self, file: str, line: int, severity: str, message: str) -> None:
        program = Path(file).stem
        if severity == "error":
            self.errors.setdefault(program, set()).add(line)
        elif found := re.search(r'(?:Revealed type is|Type of ".*" is) "(.*)"$', message, re.DOTALL):
            self.revealed.append((line, QUALIFIER.sub("", found[1])))


def mypy(folder: Path, sdk: Path = SDK) -> Verdict:
    """Run mypy, strict, over the programs."""
    config = folder / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = true\npython_version = 3.11\nmypy_path = {sdk}\nexplicit_package_bases = true\ncache_dir = {folder}\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--no-error-summary", "--output=json"]
    programs = sorted(path.name for path in PROGRAMS.glob("*.py"))
    ran = subprocess.run([*command, *programs], capture_output=True, text=True, cwd=PROGRAMS, check=False)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    verdict = Verdict()
    for line in ran.stdout.splitlines():
        entry = json.loads(line)
        verdict.add(entry["file"], entry["line"], entry["severity"], entry["message"])
    return verdict


def pyright(folder: Path, sdk: Path = SDK) -> Verdict:
    """Run pyright, strict, over the programs; imports that `negative.py` does not use are not the API's fault."""
    settings = {
        "include": [os.path.relpath(PROGRAMS, folder)],
        "extraPaths": [str(sdk), str(PROGRAMS)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "enableExperimentalFeatures": True,
        "reportUnusedImport": False,
    }
    config = folder / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    verdict = Verdict()
    for entry in json.loads(ran.stdout)["generalDiagnostics"]:
        verdict.add(entry["file"], entry["range"]["start"]["line"] + 1, entry["severity"], entry["message"])
    return verdict


def marked() -> set[int]:
    lines = (PROGRAMS / "negative.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if MARK.search(line)}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_programs_are_clean_and_every_deliberate_error_is_found(checker: Callable[[Path], Verdict], tmp_path: Path) -> None:
    verdict = checker(tmp_path)
    expected = marked() | ({BAD_DEFAULT} if checker is mypy else set[int]())
    assert {path.stem for path in PROGRAMS.glob("*.py")} == CLEAN | {"negative"}
    assert len(marked()) == 15
    assert verdict.errors == {"negative": expected}
    revealed = json.loads((PROGRAMS.parent / "revealed.json").read_text())[checker.__name__]
    assert [[line, kind] for line, kind in sorted(verdict.revealed)] == revealed
