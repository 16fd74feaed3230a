"""How a command reaches a log: Kafka, the worker that runs here (worker.json), else the embedded log itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec

from odradek_runtime.cli.errors import USAGE, CommandError
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.configuration.worker_file import ForeignFileError, WorkerFile, read_own
from odradek_runtime.http.admin.client import RemoteLog
from odradek_runtime.log.port import Log, LogError
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.store.data_folder import WORKER_FILE, DataFolderError, secure

PROBE_S = 2.0


def running(settings: Settings) -> WorkerFile | None:
    """The live worker of this data folder, or of its per-worker sub-folders; None when there is none."""
    for path in (settings.data_dir / WORKER_FILE, *sorted(settings.data_dir.glob(f"worker-*/{WORKER_FILE}"))):
        try:
            found = msgspec.json.decode(read_own(path), type=WorkerFile)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, msgspec.DecodeError, ForeignFileError) as error:
            raise CommandError(f"{path} cannot be read: {error}", "remove it if no worker runs here") from None
        if _alive(found):
            return found
    return None


def worker_url(settings: Settings) -> str | None:
    """The public URL of the worker that runs here."""
    found = running(settings)
    return found.url if found else None


def app_reference(settings: Settings) -> str | None:
    """`module:app` of the worker that runs here, when a command started it."""
    found = running(settings)
    return found.app or None if found else None


def beside(settings: Settings) -> Log:
    """The log while a worker runs: Kafka's, else through the worker. Raises LogError when there is no worker."""
    if settings.bootstrap_servers:
        return open_log(settings)
    found = running(settings)
    if found is None:
        raise LogError(f"no worker runs in {settings.data_dir}")
    return RemoteLog(found.admin_url, found.token)


@contextmanager
def log(settings: Settings, *, must_exist: bool = False) -> Generator[Log]:
    """The log for one command, closed afterwards. `must_exist`: an embedded log is opened, never made."""
    opened = _open(settings, must_exist=must_exist)
    try:
        yield opened
    finally:
        opened.close()


def where(settings: Settings) -> str:
    """The log that `log` opens, in words."""
    if settings.bootstrap_servers:
        return f"Kafka at {settings.bootstrap_servers}"
    return f"the embedded log in {settings.data_dir}"


def make_data_dir(settings: Settings, *, code: int = USAGE) -> None:
    """Make the data folder if need be. Raises CommandError when it cannot be had or written to, with this exit code."""
    folder = settings.data_dir
    try:
        secure(folder)
    except FileExistsError:
        reason = "it is a file, not a folder"
    except DataFolderError as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "it cannot be written to"
    raise CommandError(f"the data folder {folder} cannot be used: {reason}", "name another: --data-dir DIR", code=code)


def _open(settings: Settings, *, must_exist: bool) -> Log:
    if settings.bootstrap_servers:
        return open_log(settings)
    if found := running(settings):
        return RemoteLog(found.admin_url, found.token)
    if must_exist and not settings.data_dir.is_dir():
        raise CommandError(
            f"there is no log in {settings.data_dir}",
            "go to the folder where odradek dev runs, or name the log: --data-dir, --bootstrap-servers",
        )
    if not must_exist:
        make_data_dir(settings)
    return open_log(settings)


def _alive(worker: WorkerFile) -> bool:
    """Whether it answers: after a crash its file stays, and its pid may be another's."""
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        with socket.create_connection((urlsplit(worker.admin_url).hostname, urlsplit(worker.admin_url).port), PROBE_S):
            return True
    except OSError:
        return False
