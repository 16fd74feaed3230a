"""Copies the project as it stands, uncommitted work included, and nothing that git ignores.

Stands before every mutant: a patch is never applied to the tree in which people work.
"""

import shutil
import subprocess
from pathlib import Path


def copy_project(root: Path, directory: Path) -> None:
    """Copy what git knows of, or would add, into a new directory; links stay links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in sorted(set(listed.stdout.split("\0")) - {""}):
        source, target = root / name, directory / name
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, but still in the index
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
