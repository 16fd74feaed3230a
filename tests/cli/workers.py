"""A worker started as its users start it, and what it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.cli.conftest import command, environment

DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a truthy answer and give it; fails after a minute."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return answer


def alive(pid: int) -> bool:
    """Whether there is a process of this id that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Serving:
    """`odradek dev|run shop:app` on free ports in the current folder; a context manager that stops it."""

    def __init__(self, *args: str, data_dir: Path = Path(".odradek"), env: Mapping[str, str] | None = None) -> None:
        self._env = {**environment(), **(env or {})}
        self._args = command([*args, "--port", "0", "--admin-port", "0"])
        self._file = data_dir / "worker.json"
        self._said: list[str] = []

    def __enter__(self) -> Serving:
        self.process = subprocess.Popen(
            self._args, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reader.join(10)
            if self.process.stdout is not None:
                self.process.stdout.close()

    @property
    def said(self) -> str:
        """Everything that it and its workers have printed."""
        return "".join(self._said)

    def worker(self, other_than: int = 0) -> dict[str, Any]:
        """worker.json of the worker that answers that it is ready; not of the process `other_than`."""

        def ready() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.said
            try:
                found: dict[str, Any] = json.loads(self._file.read_text())
                usable = found["pid"] != other_than and httpx.get(found["admin_url"] + "/ready").is_success
            except (FileNotFoundError, httpx.TransportError):
                return None
            return found if usable else None

        return dict(until(ready, f"a ready worker; said:\n{self.said}"))

    def hears(self, text: str) -> None:
        """Wait until it has printed this."""
        until(lambda: text in self.said, f"{text!r}; said:\n{self.said}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.append(line)
