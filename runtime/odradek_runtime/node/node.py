"""One process: a log, a worker on it, and the HTTP servers round the worker; started in order, stopped in the reverse.

Whoever makes a `Node` decides when it ends (`cli.child` by signals): `start` returns when the worker has joined, `stop`
when the group has been left and everything is closed.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from odradek_runtime.configuration.worker_file import WorkerFile
from odradek_runtime.http.ingress.sockets import port_of
from odradek_runtime.worker.worker import Worker

from .front import ALONE, Front, Listening
from .log_opening import open_log

if TYPE_CHECKING:
    from odradek import App
    from odradek_runtime.configuration.settings import Settings
    from odradek_runtime.http.admin.siblings import Place
    from odradek_runtime.log.port import Log


DRAIN_S = 8
"""How long requests that wait may follow their shards to other workers when this one leaves."""
ALONE_DRAIN_S = 1
"""The same on the embedded log, where nobody takes over."""


class Node:
    """One process of an app.

    Args:
        app: what to run.
        settings: `bootstrap_servers` chooses between Kafka and the embedded log in `data_dir`.
        place: which of this machine's workers this is; they listen on the same public and admin port.
        reference: `module:app`, noted in worker.json for commands that want the app's types.

    Raises (from `start`): PortError when a port is in use, LogError when the log cannot be opened, and what
    `Worker.start` raises.
    """

    def __init__(self, app: App, settings: Settings, *, place: Place = ALONE, reference: str = "") -> None:
        self._app = app
        self._settings = settings
        self._place = place
        self._reference = reference
        self._at: Listening | None = None
        self._log: Log | None = None
        self._worker: Worker | None = None
        self._front: Front | None = None
        self._file: WorkerFile | None = None

    @property
    def url(self) -> str:
        """The public URL, once started."""
        return self._listening.url

    @property
    def admin_url(self) -> str:
        """The admin URL, once started."""
        return self._listening.admin_url

    @property
    def ports(self) -> tuple[int, ...]:
        """Those it listens on, once started."""
        return tuple(port_of(sock) for sock in self._listening.sockets)

    @property
    def worker(self) -> Worker:
        """The worker, once started."""
        if self._worker is None:
            raise RuntimeError("the node has not been started")
        return self._worker

    def start(self) -> None:
        """Bind, open the log, serve, join. What was begun is undone when a part of it fails."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Finish the epoch, hand over, leave the group, close everything. Safe to call twice."""
        if self._front is not None:
            self._front.leave()
        if self._worker is not None:
            self._worker.stop()
        if self._front is not None:
            self._front.stop()
            self._front = None
        if self._at is not None:
            self._at.close()
        if self._file is not None:
            self._file.remove(self._settings.data_dir)
            self._file = None
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def _listening(self) -> Listening:
        if self._at is None:
            raise RuntimeError("the node has not been started")
        return self._at

    def _start(self) -> None:
        self._at = at = Listening(self._settings, share_ports=self._place.workers > 1)
        self._log = opened = open_log(self._settings)
        self._worker = worker = Worker(self._app, opened, self._settings, url=at.private_url or None)
        token = secrets.token_urlsafe(24)
        drain_s = DRAIN_S if self._settings.bootstrap_servers else ALONE_DRAIN_S
        self._front = Front(self._app, self._settings, worker, opened, at, token, drain_s, self._place)
        self._front.start()
        worker.start(self._front.credential.load)
        self._file = WorkerFile(
            name=self._app.name,
            app=self._reference,
            pid=os.getpid(),
            url=at.url,
            admin_url=at.admin_url,
            private_url=at.private_url,
            token=token,
        )
        self._file.write(self._settings.data_dir)
