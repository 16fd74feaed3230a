"""docs/bench.md quotes figures that are there, and no other results lie about."""

import re
import subprocess
from pathlib import Path

from tests.docs.page import DOCS

ROOT = DOCS.parent
NAMED = set(re.findall(r"[a-z]+-\d{8}-\d{6}\.json", (DOCS / "bench.md").read_text()))


def test_the_results_that_the_page_names_are_there() -> None:
    assert len(NAMED) > 3
    assert sorted(name for name in NAMED if not (ROOT / "bench" / "results" / name).is_file()) == []


def test_no_results_are_kept_that_the_page_does_not_name() -> None:
    """Those of a run that nobody quotes may lie in a tree in which somebody works; they are not committed."""
    listed = subprocess.run(["git", "ls-files", "bench/results"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {Path(line).name for line in listed.stdout.splitlines()} == NAMED
