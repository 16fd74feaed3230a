"""docs/invariants.md says of each rule where it is enforced, tested and taken out: what it names is there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.mutants.__main__ import Mutant

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "invariants.md").read_text()
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))


def test_every_mutant_stands_in_the_table_and_every_one_of_the_table_is_there() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row.split(" | ")[3])}

    assert {patch.stem for patch in PATCHES} == named


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_tests_that_a_mutant_names_are_there_and_in_the_table(patch: Path) -> None:
    for test in Mutant.read(patch).tests:
        path, name = test.split("::")
        assert f"def {name.split('[')[0]}(" in (ROOT / path).read_text()
        assert f"`{test.removeprefix('tests/')}`" in TABLE


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_mutant_fits_the_code(patch: Path) -> None:
    """One that does not takes nothing out, and proves nothing."""
    done = subprocess.run(["git", "apply", "--check", "-p1", str(patch)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"cut it anew: {done.stderr}"


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)", TABLE))), ids=":".join)
def test_the_places_that_enforce_a_rule_are_there(place: tuple[str, str]) -> None:
    source = (ROOT / "runtime" / "odradek_runtime" / place[0]).read_text()
    for name in place[1].split("."):
        assert re.search(rf"^ *(?:async )?(?:class|def) {name}\b", source, re.MULTILINE), f"{name} is not in {place[0]}"
