"""A PostgreSQL of our own for DBOS: a new cluster in a folder of its own, its programs from the system's packages.

It runs under a user without rights when the benchmark itself runs as root, which PostgreSQL refuses. Settings are its own,
so each commit reaches the disk.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import Running, started
from bench.waits.site import Site, Unavailable, until
from tests.broker.ports import PortLease

FOLDERS = Path("/usr/lib/postgresql")
STOP_FAST = signal.SIGINT
"""PostgreSQL then ends without waiting for its clients."""


def programs() -> Path:
    """Where initdb and postgres are.

    Raises:
        Unavailable: they are not installed.
    """
    found = sorted(FOLDERS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path is not None:
        return Path(on_path).resolve().parent
    raise Unavailable("DBOS needs PostgreSQL: on Debian, apt-get install postgresql")


@contextmanager
def running_postgres(log: Path) -> Iterator[tuple[str, Running]]:
    """Start a database, give its URL and its process, and remove it at the end."""
    user = _unprivileged() if os.getuid() == 0 else None
    port = PortLease.take()
    folder = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    if user is not None:
        shutil.chown(folder, user, user)
    bin_ = programs()
    try:
        _initdb(bin_, folder / "data", user)
        command = [
            str(bin_ / "postgres"), "-D", str(folder / "data"), "-p", str(port.port), "-c", "listen_addresses=127.0.0.1",
            "-c", f"unix_socket_directories={folder}",
        ]  # fmt: skip
        with started(command, log, _environment(), user, STOP_FAST) as process:
            ready = [str(bin_ / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port.port), "-U", "bench", "-d", "postgres"]
            until(lambda: _succeeds(ready), "PostgreSQL", Site(port.port, [process]))
            created = [str(bin_ / "createdb"), "-h", "127.0.0.1", "-p", str(port.port), "-U", "bench", "bench"]
            if not _succeeds(created):
                raise RuntimeError(f"the database could not be created:\n{process.said()}")
            yield f"postgresql://bench@127.0.0.1:{port.port}/bench", process
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        port.release()


def _initdb(bin_: Path, data: Path, user: str | None) -> None:
    ran = subprocess.run(
        [str(bin_ / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "--encoding", "UTF8", "--locale", "C"],
        capture_output=True, text=True, check=False, cwd="/", env=_environment(), user=user, group=user,
        extra_groups=None if user is None else [],
    )  # fmt: skip
    if ran.returncode != 0:
        raise RuntimeError(f"initdb failed:\n{ran.stdout[-500:]}{ran.stderr[-1000:]}")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, env=_environment()).returncode == 0


def _unprivileged() -> str:
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Unavailable("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
