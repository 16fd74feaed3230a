"""How an operator's command reaches a running app: by the admin port of the worker that runs here, found anew after a restart."""

from __future__ import annotations

import getpass
import socket
import time
from contextlib import suppress
from typing import TypeVar

from odradek_runtime.cli.connect import running, where
from odradek_runtime.cli.errors import CommandError
from odradek_runtime.cli.printable import one_line
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.http.admin.client import Query, RemoteLog
from odradek_runtime.http.admin.ordering import NAME_CHARACTERS
from odradek_runtime.log.port import LogError

T = TypeVar("T")
RESTART_S = 60.0
"""A worker that restarts is waited for so long."""
PAUSE_S = 0.5


def asker() -> str:
    """Who orders it, for the log: user@host, in a form that a worker takes."""
    user = "somebody"
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return one_line(f"{user}@{socket.gethostname()}")[:NAME_CHARACTERS]


class Operator:
    """Asks the worker of the data folder; a context manager. Raises CommandError when none runs there.

    Example: `with Operator(settings) as operator: operator.ask("GET", "/replays", wire.Replays)`
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        found = running(settings)
        if found is None:
            raise CommandError(
                f"no worker runs in {settings.data_dir}, and this is asked of one ({where(settings)})",
                "start the app, or give the --data-dir of one that runs; in Kubernetes: kubectl exec POD -- odradek …",
            )
        self.app = found.name
        self._found = found
        self._remote = RemoteLog(found.admin_url, found.token)

    def ask(self, method: str, path: str, kind: type[T], body: object = None, query: Query | None = None) -> T:
        """One request that must succeed. What cannot be tried again raises LogError with the worker's words at once."""
        until_s = time.monotonic() + RESTART_S
        while True:
            try:
                return self._remote.ask(method, path, kind, body, query)
            except LogError as error:
                if not (self._restarts() or error.retriable) or time.monotonic() > until_s:
                    raise
            time.sleep(PAUSE_S)

    def _restarts(self) -> bool:
        """Whether the worker is another one by now, or on its way: it answers before its worker.json says with which token."""
        found = running(self._settings)
        if found is None:
            return True
        if (found.admin_url, found.token) == (self._found.admin_url, self._found.token):
            return False
        self._found = found
        self._remote.close()
        self._remote = RemoteLog(found.admin_url, found.token)
        return True

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_: object) -> None:
        self._remote.close()
