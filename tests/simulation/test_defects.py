"""Every defect that the simulation is to find still fits the code: one that does not would be missed without a word."""

from pathlib import Path

import pytest

from .defects import DEFECTS, ENGINE, Defect

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_what_it_replaces_stands_in_its_file_once(defect: Defect) -> None:
    assert (ROOT / ENGINE / defect.file).read_text().count(defect.old) == 1
