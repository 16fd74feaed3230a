"""The three processors that come, go and are killed: `odradek run`, or Kafka Streams' own client; each is a process group."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from odradek_runtime.store.data_folder import WORKER_FILE
from tests.eos.oracle import Oracle

ROOT = Path(__file__).resolve().parents[2]
PROCESSED = re.compile(rb"processed [0-9]+ records from topic")
END_S = 120.0


class Processor(ABC):
    """One processor. `keep`: its folder outlives its process, as that of the original's first one does."""

    code_after_stop = 0

    def __init__(self, name: str, folder: Path, *, keep: bool) -> None:
        self.name = name
        self.orphans: set[int] = set()
        """Process groups of which a kill has left something: it must end by itself."""
        self._keep = keep
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._state = folder / f"{name}-state"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if not self._keep:
            shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir(parents=True, exist_ok=True)
        command, env = self._command()
        with self._log.open("ab") as words:
            self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=words, stderr=words, start_new_session=True)

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(END_S)
        assert code == self.code_after_stop, f"{self.name} ended with {code} after SIGTERM:\n{self.words()}"

    def kill(self, *, children: bool = True) -> None:
        """SIGKILL to all of it, or to everything but the producers' processes."""
        assert self._process is not None
        if children:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self.orphans.add(self._process.pid)
            for pid in [*self._workers(), self._process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Leave nothing behind."""
        for group in [*self.orphans, *([self._process.pid] if self._process is not None else [])]:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def mark(self) -> int:
        """How much it has said so far."""
        return self._log.stat().st_size if self._log.exists() else 0

    def processed_since(self, mark: int) -> bool:
        """Whether it has told of records since then."""
        assert self.running, f"{self.name} has ended by itself:\n{self.words()}"
        with self._log.open("rb") as words:
            words.seek(mark)
            return PROCESSED.search(words.read()) is not None

    def words(self) -> str:
        """The end of what it said, over all its lives."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    @abstractmethod
    def _command(self) -> tuple[list[str], dict[str, str]]: ...

    def _workers(self) -> list[int]:
        return []


class Odradek(Processor):
    """A supervisor with one worker. `overlay`: folders from which it imports before all others (an odradek with a defect)."""

    def __init__(
        self, name: str, folder: Path, servers: str, *, keep: bool, complex_: bool, flags: Sequence[str], overlay: Sequence[Path]
    ) -> None:
        super().__init__(name, folder, keep=keep)
        self._servers = servers
        self._complex = complex_
        self._flags = flags
        self._overlay = overlay

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "odradek_runtime.cli", "run", "tests.eos.app:app", "--bootstrap-servers", self._servers]
        command += ["--port", "0", "--admin-port", "0", "--data-dir", str(self._state), *self._flags]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ODRADEK_")}
        path = os.pathsep.join([*map(str, self._overlay), *filter(None, sys.path)])
        return command, {**kept, "PYTHONPATH": path, "EOS_COMPLEX": "1" if self._complex else "0"}

    def _workers(self) -> list[int]:
        assert self._process is not None
        found: list[int] = []
        for file in self._state.glob(f"*/{WORKER_FILE}"):
            with suppress(OSError, ValueError):
                pid = json.loads(file.read_text())["pid"]
                if os.getpgid(pid) == self._process.pid:  # not one that an earlier life has left
                    found.append(pid)
        return found


class Streams(Processor):
    """StreamsEosTest's own processor."""

    code_after_stop = 143

    def __init__(self, name: str, folder: Path, servers: str, oracle: Oracle, *, keep: bool) -> None:
        super().__init__(name, folder, keep=keep)
        self._oracle = oracle
        self._properties = folder / f"{name}.properties"
        self._settings: Mapping[str, str] = {
            "bootstrap.servers": servers,
            "state.dir": str(self._state),
            "processing.guarantee": "exactly_once_v2",
            "acceptable.recovery.lag": "9223372036854775807",
            "session.timeout.ms": "10000",
            "group.protocol": "classic",
        }

    def _command(self) -> tuple[list[str], dict[str, str]]:
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))
        return self._oracle.processor(self._properties), dict(os.environ)


def left_of(groups: set[int]) -> list[int]:
    """The processes of these groups that still run."""
    left: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) in groups and fields[0] != "Z":
            left.append(int(stat.parent.name))
    return left
