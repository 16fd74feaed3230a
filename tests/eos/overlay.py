"""An odradek with one defect, for workers to import: is the oracle sharp?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.eos.processors import ROOT


def defective(patch: Path, directory: Path) -> list[Path]:
    """Copy the packages, apply the patch, and give the folders to import from."""
    for name in ("sdk", "runtime", "schemas"):
        shutil.copytree(ROOT / name, directory / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", "--unsafe-paths", f"--directory={directory}", str(patch)], cwd="/", check=True)
    return [directory / "sdk", directory / "runtime"]
