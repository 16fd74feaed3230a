"""The front of a node: its sockets, and everything that speaks HTTP behind them, in two threads.

public port: the ingress, for clients. private port: for the app's other workers, where there can be any. admin port: probes,
metrics, commands; it has a thread and a loop of its own, so that a probe is answered whatever clients do at the public one.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from odradek_runtime.configuration.withheld import Withheld
from odradek_runtime.core.disclosure import Disclosure
from odradek_runtime.http.admin.access import Access, Blocking
from odradek_runtime.http.admin.app import admin_app, sibling_routes
from odradek_runtime.http.admin.controls import ControlRoutes
from odradek_runtime.http.admin.everybody import Everybody
from odradek_runtime.http.admin.exposition import Exposition
from odradek_runtime.http.admin.invocations import InvocationRoutes
from odradek_runtime.http.admin.jobs import JobRoutes
from odradek_runtime.http.admin.peer import PrivatePort
from odradek_runtime.http.admin.replays import ReplayRoutes
from odradek_runtime.http.admin.resets import ResetRoutes
from odradek_runtime.http.admin.routes import AdminRoutes
from odradek_runtime.http.admin.siblings import Place, Siblings
from odradek_runtime.http.admin.topics import TopicRoutes
from odradek_runtime.http.ingress.acceptance import CommandsTopic, publisher_name
from odradek_runtime.http.ingress.address import Directory
from odradek_runtime.http.ingress.app import private_app, public_app
from odradek_runtime.http.ingress.awakeables import AwakeableRoutes
from odradek_runtime.http.ingress.bridge import Bridge
from odradek_runtime.http.ingress.budget import Budget
from odradek_runtime.http.ingress.credential import Credential
from odradek_runtime.http.ingress.dispatch import Dispatcher
from odradek_runtime.http.ingress.door import Door, Limits
from odradek_runtime.http.ingress.forward import Forwarder
from odradek_runtime.http.ingress.names import Names, host_name
from odradek_runtime.http.ingress.peers import Owners
from odradek_runtime.http.ingress.private import PrivateRoutes
from odradek_runtime.http.ingress.routes import Routes
from odradek_runtime.http.ingress.server import HttpThread
from odradek_runtime.http.ingress.sockets import authority, listen, port_of

if TYPE_CHECKING:
    from odradek import App
    from odradek_runtime.configuration.settings import Settings
    from odradek_runtime.http.ingress.port import Answering
    from odradek_runtime.log.port import Log

CONNECT_S = 2.0
ALONE = Place()
LOOK_S = 0.01
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound
FORWARDED_AT_ONCE = 1_000
SHORT_S = 2
"""How long a worker that leaves waits for what is short, before it hands over."""
REPLY_S = 2
"""What is left of the grace, when those who waited have given up, to say so."""


class Listening:
    """The sockets of a node and their URLs. Bound before the worker joins, so that nothing is started in vain.

    On the embedded log there is no other worker, and so no private port; its URL is "".
    """

    def __init__(self, settings: Settings, *, share_ports: bool) -> None:
        self.private: socket.socket | None = None
        try:
            if settings.bootstrap_servers:
                self.private = listen(settings.host, settings.private_port, what="private port")
            self.public = listen(settings.host, settings.port, what="HTTP port", shared=share_ports)
            self.admin = listen(settings.admin_host, settings.admin_port, what="admin port", shared=share_ports)
        except OSError:
            self.close()
            raise
        self.url = _url(settings.host, self.public)
        self.admin_url = _url(settings.admin_host, self.admin)
        self.private_url = "" if self.private is None else _private_url(settings, self.private)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that listen."""
        return tuple(sock for sock in (self.public, self.admin, self.private) if sock is not None)

    def close(self) -> None:
        """Close what is bound."""
        for name in ("private", "public", "admin"):
            sock: socket.socket | None = getattr(self, name, None)
            if sock is not None:
                sock.close()


class Front:
    """Everything that speaks HTTP in a node: a thread with the public and the private server, and one with the admin server.

    `drain_s`: how long requests that wait may follow their shards to other workers when this one leaves. `place`: which of the
    node's workers this is.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        worker: Answering,
        log_: Log,
        at: Listening,
        token: str,
        drain_s: int,
        place: Place = ALONE,
    ) -> None:
        self._thread = HttpThread()
        self._admin_thread = HttpThread("odradek-admin-http")
        self._budget = Budget(settings.shares.clients_bytes)
        self._doors = _doors(settings, at, self._budget)
        self._worker = worker
        self._drain_s = drain_s
        self._at = at
        self._client = _client()
        self._admin_client = _client()
        self._owners = Owners(lambda: log_.peers(app.name))
        own_secret = settings.private_token.encode()
        self.credential = Credential(app.name, lambda: own_secret or log_.shared_secret(app.name) or b"", at.private_url)
        self._commands = CommandsTopic(
            app.name, lambda: log_.publisher(publisher_name(app.name, settings.data_dir)), log_.topic
        )
        self.dispatcher = Dispatcher(
            worker,
            self._owners,
            Bridge(worker, self._thread.loop),
            Forwarder(self._client, self.credential),
            url=at.private_url,
            waiting_limit=settings.requests_waiting,
            acceptor=self._commands,
        )
        largest = settings.max_record_bytes
        routes = Routes(
            Directory(app.handlers()),
            self.dispatcher,
            worker,
            max_record_bytes=largest,
            budget=self._budget,
            disclosure=Disclosure(shown=settings.errors_shown),
            withheld=Withheld(settings.headers_withheld),
        )
        awakeables = AwakeableRoutes(app.name, self.dispatcher, max_record_bytes=largest, budget=self._budget)
        self._public = public_app(routes, awakeables)
        peer = PrivatePort(self._admin_client, self.credential)
        siblings = Siblings(place, settings.data_dir, peer)
        access, self._blocking = Access(token, siblings.tokens), Blocking()
        self._topics = TopicRoutes(log_, access, self._blocking)
        self._replays = replays = ReplayRoutes(app, worker, log_, access, self._blocking, peer, at.private_url)
        self._admin_owners = Owners(lambda: log_.peers(app.name))
        everybody = Everybody(app.name, worker, log_, self._admin_owners, peer, self._blocking, at.private_url)
        invocations = InvocationRoutes(worker, everybody, access, self._blocking)
        controls = ControlRoutes(app.name, log_, invocations, access, self._blocking)
        jobs = JobRoutes(worker, self._admin_owners, peer, access)
        exposition = Exposition(worker, lambda: self.dispatcher.waiting, self._doors["public"])
        admin = AdminRoutes(worker, exposition, siblings)
        resets = ResetRoutes(app, worker, log_, access, self._blocking)
        tables = (self._topics, replays, jobs, resets, invocations, controls)
        self._admin = admin_app(admin, *(each.table() for each in tables))
        private = PrivateRoutes(self.dispatcher, max_record_bytes=largest, budget=self._budget)
        others = [*sibling_routes(admin), *replays.private_table(), *jobs.private_table(), *invocations.private_table()]
        self._private = private_app(private, others, self.credential)

    def start(self) -> None:
        """Serve at all of them; until the worker is ready, requests wait or are told 503."""
        self._admin_thread.start()
        self._admin_thread.call(self._replays.audit.start())
        self._admin_thread.serve("admin", self._admin, self._at.admin, grace_s=1, door=self._doors["admin"])
        self._thread.start()
        self._thread.call(self.dispatcher.start())
        grace_s = SHORT_S + self._drain_s + REPLY_S
        if self._at.private is not None:
            self._thread.serve("private", self._private, self._at.private, grace_s=grace_s, door=self._doors["private"])
        self._thread.serve("public", self._public, self._at.public, grace_s=grace_s, door=self._doors["public"])

    def leave(self) -> None:
        """Take no new requests. Returns when all that wait are answered, or after SHORT_S: then they may follow their shards."""
        self._thread.call(self.dispatcher.drain(SHORT_S + self._drain_s))
        self._thread.stop_serving("public")
        until_s = time.monotonic() + SHORT_S
        while self.dispatcher.waiting and not (self._worker.failed or self._worker.log_trouble) and time.monotonic() < until_s:
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Let what is open end within its grace, then close everything."""
        self._thread.stop(self._close)
        self._admin_thread.stop(self._close_admin)
        self._owners.close()
        self._admin_owners.close()
        self.credential.close()

    async def _close(self) -> None:
        await self._commands.close()
        await self._client.aclose()

    async def _close_admin(self) -> None:
        await self._replays.audit.stop()
        await self._topics.close()
        self._blocking.close()
        await self._admin_client.aclose()


def _doors(settings: Settings, at: Listening, budget: Budget) -> dict[str, Door]:
    """Who may come in at each port. Pages of other origins are for the public one at most."""
    names = settings.http_hosts
    doors = {
        "admin": Door(names=Names.of(at.admin, [settings.admin_host], names)),
        "public": Door(
            Limits.public(settings),
            budget,
            Names.of(at.public, [settings.host], names),
            frozenset(settings.http_cors_origins),
        ),
    }
    if at.private is not None:
        private = host_name(urlsplit(at.private_url).netloc.encode())
        doors["private"] = Door(budget=budget, names=Names.of(at.private, [settings.host, private], names))
    return doors


def _client() -> httpx.AsyncClient:
    """For other workers; it belongs to the loop that uses it."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=CONNECT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=FORWARDED_AT_ONCE),
        trust_env=False,
    )


def _url(host: str, sock: socket.socket) -> str:
    """Where a socket is reached: a wildcard address is reached, from here, by loopback."""
    host = WILDCARDS.get(host.strip("[]"), host)
    return f"http://{authority(host, port_of(sock))}"


def _private_url(settings: Settings, sock: socket.socket) -> str:
    """Where peers reach the private port; when nothing is advertised, a wildcard address by this machine's own."""
    host = settings.host
    if settings.advertised_url:
        return _advertised(settings.advertised_url, sock)
    if host.strip("[]") in WILDCARDS:
        try:
            host = socket.gethostbyname(socket.gethostname())
        except OSError:
            return _url(host, sock)
    return _url(host, sock)


def _advertised(url: str, sock: socket.socket) -> str:
    """The advertised URL, with the private port added where it names none."""
    url = url.rstrip("/")
    return url if urlsplit(url).port is not None else f"{url}:{port_of(sock)}"
