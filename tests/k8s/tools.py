"""The programs that build.sh made, and how a test runs one.

Stands before the tests marked k8s; the static tests beside them need none of this.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "helm" / "odradek"


def home() -> Path:
    """Where build.sh put things: $K8S_HOME, else ~/.cache/odradek-k8s."""
    return Path(os.environ.get("K8S_HOME") or Path.home() / ".cache" / "odradek-k8s")


def tool(name: str) -> str:
    """The path of one program.

    Raises:
        FileNotFoundError: build.sh has not run, or not to its end.
    """
    path = home() / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run tests/k8s/build.sh (about ten minutes, once), or make k8s")
    return str(path)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    command: list[str]
    code: int
    out: str
    err: str

    def succeeded(self) -> str:
        """What it printed.

        Raises:
            AssertionError: it failed; the message has everything it said.
        """
        assert self.code == 0, f"{' '.join(self.command)}\nended with {self.code}\n{self.out}\n{self.err}"
        return self.out

    def refused(self, *words: str) -> None:
        """Check that it failed and named the culprit.

        Raises:
            AssertionError: it succeeded, or one of the words is not in its message.
        """
        assert self.code != 0, f"{' '.join(self.command)}\nwas to fail, and printed\n{self.out}"
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"


def run(name: str, *arguments: str, given: str | None = None, environment: dict[str, str] | None = None) -> Outcome:
    """Run one of the programs from the project's folder, with `given` as its input."""
    command = [tool(name), *arguments]
    env = {**os.environ, **(environment or {})}
    ended = subprocess.run(command, input=given, env=env, cwd=PROJECT, text=True, capture_output=True, check=False)
    return Outcome(command, ended.returncode, ended.stdout, ended.stderr)
