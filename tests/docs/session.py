"""A reader's shell: a folder, free ports in place of the usual ones, and a worker that goes on in the background."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from tests.broker.ports import PortLease
from tests.cli.conftest import environment
from tests.docs.page import Command, File

DEADLINE_S = 60.0
SERVERS = ("odradek dev", "odradek run")
USUAL = {"8080": "ODRADEK_PORT", "9070": "ODRADEK_ADMIN_PORT"}


class Session:
    """Follows one page. A context manager: whatever it has started ends with it.

    `env`: what the page's reader has set, addresses as the page has them.
    """

    def __init__(self, folder: Path, bootstrap_servers: str = "", env: Mapping[str, str] = MappingProxyType({})) -> None:
        self._folder = folder
        self._leases = {usual: PortLease.take() for usual in USUAL}
        self._kafka = bootstrap_servers
        kept = environment()
        self._env = {
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]]),
            "NO_COLOR": "1",
            "COLUMNS": "120",
            **{USUAL[usual]: str(lease.port) for usual, lease in self._leases.items()},
            **{name: self._here(value) for name, value in env.items()},
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._words = folder / "server.log"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_server()
        for lease in self._leases.values():
            lease.release()

    def do(self, act: File | Command) -> None:
        """Write the file, or run the command and compare what it prints."""
        if isinstance(act, File):
            target = self._folder / act.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._here(act.text))
        elif act.text.startswith(SERVERS):
            self._serve(act.text)
        else:
            self._run(act)

    @property
    def url(self) -> str:
        """Where the worker's public port is."""
        return f"http://localhost:{self._leases['8080'].port}"

    def worker(self) -> dict[str, Any]:
        """What the worker of this folder says of itself: its pid, and the URL and token of its admin port."""
        return dict(json.loads((self._folder / ".odradek" / "worker.json").read_text()))

    def kill_worker(self) -> None:
        """Kill -9 of the worker, and wait for the one that `odradek dev` starts in its place."""
        killed = self.worker()["pid"]
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_S
        while self._pid() in (0, killed) or not self._ready():
            assert time.monotonic() < deadline, f"no other worker after kill -9:\n{self._said()}"
            time.sleep(0.05)

    def _pid(self) -> int:
        """The worker's; 0 between two."""
        try:
            return int(self.worker()["pid"])
        except (FileNotFoundError, ValueError):
            return 0

    def _run(self, command: Command) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            done = subprocess.run(
                ["bash", "-c", self._here(command.text)],
                cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=DEADLINE_S, check=False,
            )  # fmt: skip
            said = self._there(done.stdout + done.stderr)
            if matches(said, command.printed):
                return
            if not command.repeat or time.monotonic() > deadline:
                shown = f"should print:\n{command.printed}\nbut printed:\n{said}\n--- worker:\n{self._said()}"
                raise AssertionError(f"line {command.line}: $ {command.text}\n{shown}")
            time.sleep(0.2)

    def _serve(self, command: str) -> None:
        """One worker at a time; the next command comes when it is ready."""
        self._end_server()
        with self._words.open("ab") as words:
            self._server = subprocess.Popen(
                ["bash", "-c", "exec " + self._here(command)],
                cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while not self._ready():
            assert self._server.poll() is None, f"$ {command}\nended with {self._server.returncode}:\n{self._said()}"
            assert time.monotonic() < deadline, f"$ {command}\nis not ready:\n{self._said()}"
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://localhost:{self._leases['9070'].port}/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _end_server(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            server.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            raise
        finally:
            server.wait()

    def _said(self) -> str:
        return self._words.read_text(errors="replace")[-3000:] if self._words.exists() else ""

    def _here(self, text: str) -> str:
        """The page's addresses, as they are in this session."""
        return self._replaced(text, {usual: str(lease.port) for usual, lease in self._leases.items()}, "kafka:9092", self._kafka)

    def _there(self, text: str) -> str:
        """The session's addresses, as the page has them."""
        usual = {str(lease.port): usual for usual, lease in self._leases.items()}
        return self._replaced(text, usual, self._kafka, "kafka:9092")

    @staticmethod
    def _replaced(text: str, ports: Mapping[str, str], servers: str, by: str) -> str:
        for port, other in ports.items():
            text = re.sub(rf"(localhost|127\.0\.0\.1):{port}\b", rf"\1:{other}", text)
        return text.replace(servers, by) if servers and by else text


def matches(said: str, wanted: str) -> bool:
    """Whether what was said is what was wanted, line by line; `...` stands for anything."""
    lines = [line.rstrip() for line in said.strip("\n").splitlines()]
    pattern = ""
    for line in wanted.splitlines():
        pattern += r"(?:[^\n]*\n)*" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", "[^\n]*") + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None
