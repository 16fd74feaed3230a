"""A failed test is reported, whatever its message holds, also when tests run in several processes."""

import subprocess
import sys
from pathlib import Path


def test_a_message_with_a_lone_surrogate_is_shown_escaped(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_report_to_serializable\n")
    (tmp_path / "test_fails.py").write_text('def test_it() -> None:\n    assert ["\\ud800"] == []\n')
    command = [sys.executable, "-m", "pytest", "--numprocesses", "1", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr  # a failed test; 3 is an error of pytest's
    assert "1 failed" in ended.stdout
    assert "\\ud800" in ended.stdout
