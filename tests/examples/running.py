"""An example as its reader runs it: by the two lines of its docstring, in a folder of its own."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import httpx

from tests.docs.page import Command
from tests.docs.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_S = 60.0


class Running:
    """A started example: its shell, and a client of its public port."""

    def __init__(self, shell: Session, http: httpx.Client) -> None:
        self.shell = shell
        self.http = http

    def kill(self) -> None:
        """Kill -9 of the worker; another one is ready when this returns."""
        self.shell.kill_worker()

    def post(self, path: str, body: Any = None) -> Any:
        """What a handler answers; an error of it fails the test."""
        reply = self.http.post(path) if body is None else self.http.post(path, json=body)
        assert reply.is_success, f"{path}: {reply.status_code} {reply.text}"
        return reply.json()

    def run(self, command: str, printed: str) -> None:
        """Run a command in its folder until it prints this."""
        self.shell.do(Command(0, command, printed, repeat=True))

    def results(self) -> int:
        """How many entries of what is under way have a result that is durable."""
        worker = self.shell.worker()
        token = {"authorization": f"Bearer {worker['token']}"}
        with httpx.Client(base_url=worker["admin_url"], headers=token, trust_env=False) as admin:
            ids = [one["id"] for one in admin.get("/invocations").json()["invocations"]]
            entries = [entry for id_ in ids for entry in admin.get(f"/invocations/{id_}/journal").json()["entries"]]
        return sum(bool(entry.get("ended")) for entry in entries)


def head(name: str) -> tuple[str, str]:
    """The two lines at its head: what starts it, and what asks it something."""
    found = re.search(r"^ {4}(odradek dev .*)\n {4}(.*)\n\n", (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)
    assert found is not None, f"{name}.py does not begin with two lines to start it"
    return found[1], found[2]


@contextmanager
def example(name: str, folder: Path, printed: str, env: Mapping[str, str] = MappingProxyType({})) -> Generator[Running]:
    """Start it by the first line at its head, ask it by the second, which must print this."""
    start, ask = head(name)
    with Session(folder, env=env) as shell, httpx.Client(base_url=shell.url, timeout=60, trust_env=False) as http:
        shell.do(Command(0, start, "", repeat=False))
        shell.do(Command(0, ask, printed, repeat=False))
        yield Running(shell, http)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
