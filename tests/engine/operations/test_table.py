"""The table of kinds: each kind has its tests in a file of its name here."""

from pathlib import Path

from odradek_runtime.core.operations.table import KINDS

TOGETHER = {"get": "state", "set": "state", "clear": "state", "names": "state", "now": "clock"}
"""Kinds whose tests stand in one file, by what they describe."""


def test_every_kind_has_a_test_file_of_its_name() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {TOGETHER.get(name, name) for name in KINDS} <= files
