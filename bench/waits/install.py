"""Peers are installed into folders of their own below bench/, never into the project's environment."""

import subprocess
import sys
from pathlib import Path

from bench.waits.site import Unavailable


def install_python(venv: Path, packages: tuple[str, ...]) -> None:
    """Make a virtual environment with these packages, unless it has them.

    Raises:
        Unavailable: they cannot be had.
    """
    installed, wanted = venv / "installed", "\n".join(packages)
    if installed.exists() and installed.read_text() == wanted:
        return
    run_quietly([sys.executable, "-m", "venv", str(venv)])
    run_quietly([str(venv / "bin" / "pip"), "install", "-q", *packages])
    installed.write_text(wanted)


def run_quietly(command: list[str]) -> None:
    """Run a command that installs something.

    Raises:
        Unavailable: it failed; with the end of what it said.
    """
    ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ran.returncode != 0:
        raise Unavailable(f"{' '.join(command[:4])} … failed:\n{ran.stdout[-500:]}{ran.stderr[-1500:]}")
