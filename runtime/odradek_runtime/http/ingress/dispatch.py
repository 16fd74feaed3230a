"""From a request to the engine that owns its shard, wherever that is, until there is an answer.

The invocation id is fixed before the first try, so that a try whose outcome is unknown (owner killed, shard moved) is
repeated as the same invocation. A shard without an owner is waited for, in bounded time; then the client is told 503, and
whether its invocation exists (`standing`).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from odradek_runtime.core.disclosure import ours_only
from odradek_runtime.core.records.request import Invoke, Reply, Request, unheard
from odradek_runtime.http.ingress.errors import HttpError, too_many, unavailable
from odradek_runtime.http.ingress.forward import NotGiven
from odradek_runtime.http.ingress.standing import Standing
from odradek_runtime.routing import id_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from odradek_runtime.http.ingress.bridge import Bridge
    from odradek_runtime.http.ingress.forward import Forwarder
    from odradek_runtime.http.ingress.peers import Owners
    from odradek_runtime.http.ingress.port import Answering

LONG_TRY_S = 1.0
"""A try that lasted this long had found an engine: the patience for a missing owner starts anew after it."""
LOOK_S = 0.5
"""Between two looks at whether the log answers."""
LEAVING = "this worker is leaving, and no other has answered in its place yet"


class Acceptor(Protocol):
    """Makes a one-way request durable although nobody owns its shard now (it goes to the commands topic)."""

    async def accept(self, request: Invoke, shard: int) -> Reply:
        """Durable when it returns. Raises HttpError 503 when the log cannot be reached."""
        ...


class Dispatcher:
    """Lives in the loop of the HTTP servers. `url` is this worker's own private URL."""

    def __init__(
        self,
        worker: Answering,
        owners: Owners,
        bridge: Bridge,
        forwarder: Forwarder,
        *,
        url: str,
        waiting_limit: int,
        acceptor: Acceptor | None = None,
        patience_s: float = 30.0,
        acceptance_s: float = 1.0,
        watch_s: float = 1.0,
    ) -> None:
        self._worker = worker
        self._owners = owners
        self._bridge = bridge
        self._forwarder = forwarder
        self._url = url
        self._waiting_limit = waiting_limit
        self._acceptor = acceptor
        self.patience_s = patience_s
        """How long a shard without an owner is waited for."""
        self._acceptance_s = acceptance_s
        self._watch_s = watch_s
        self._limits: dict[asyncio.Timeout, int] = {}
        self._peers_limits: dict[asyncio.Timeout, int] = {}
        self._ends_s: float | None = None
        """When this worker is leaving: until then, on the loop's clock, everybody who waits is answered."""
        self._watching: asyncio.Task[None] | None = None
        self.waiting = 0

    async def start(self) -> None:
        """Begin to look whether the log answers."""
        self._watching = asyncio.create_task(self._watch_log())

    async def drain(self, patience_s: float) -> None:
        """This worker is leaving: whoever still waits may follow the shard to its next owner, but not for long."""
        self._ends_s = asyncio.get_running_loop().time() + patience_s
        for limit in self._limits:
            end_at(limit, self._ends_s)

    async def _watch_log(self) -> None:
        """Nobody waits for an answer that cannot come: what is accepted goes on when the log is back."""
        while True:
            await asyncio.sleep(LOOK_S)
            for limit, shard in (*self._limits.items(), *self._peers_limits.items()):
                if self._worker.trouble_of(shard):
                    end_at(limit, asyncio.get_running_loop().time())

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """One place among the requests that may wait here. Raises HttpError 429 when all are taken."""
        if self.waiting >= self._waiting_limit:
            raise too_many(f"{self._waiting_limit} requests wait at this worker already (setting requests_waiting)")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def _within(self, limit: asyncio.Timeout, shard: int, limits: dict[asyncio.Timeout, int]) -> AsyncGenerator[None]:
        """While this lasts, the limit may be brought forward."""
        limits[limit] = shard
        try:
            yield
        finally:
            del limits[limit]

    async def ask_here(self, request: Request, accepted: Callable[[], None] = unheard) -> Reply:
        """Ask this worker's own engine alone (what a peer's request gets): `moved` when the shard is not here."""
        if not self._worker.shards or not self._worker.owns(self.shard_of(request)):
            return Reply("moved", request.invocation_id)
        shard = self.shard_of(request)
        if trouble := self._worker.trouble_of(shard):
            raise unavailable(trouble, retry_after_s=5)
        try:
            async with asyncio.timeout(None) as limit, self._within(limit, shard, self._peers_limits):
                return await self._bridge.ask(request, accepted)
        except TimeoutError:
            return Reply("moved", request.invocation_id, doubtful=True)

    async def ask(self, request: Request) -> Reply:
        """The owner's answer. Raises HttpError: 429 (too many wait), 503 (nobody owns the shard, worker failed).

        An error says whether the invocation exists.
        """
        standing = Standing(request)
        shard = self.shard_of(request)
        if trouble := self._worker.trouble_of(shard):
            raise standing.refused(unavailable(trouble, retry_after_s=5))
        async with self.place():
            try:
                async with asyncio.timeout_at(self._ends_s) as limit, self._within(limit, shard, self._limits):
                    return await self._until_answered(request, standing)
            except TimeoutError:
                raise standing.refused(unavailable(self._worker.trouble_of(shard) or LEAVING)) from None
            except HttpError as error:
                raise standing.refused(error) from error

    def shard_of(self, request: Request) -> int:
        """Raises ValueError when the id is not one of ours."""
        return id_hash(request.invocation_id) % (self._worker.shards or 1)

    async def _until_answered(self, request: Request, standing: Standing) -> Reply:
        missing_since: float | None = None
        pause_s = 0.02
        while True:
            began = time.monotonic()
            if standing.exists == "no":
                self._check_alive()
            if self._worker.shards and (reply := await self._try_once(request, standing)) is not None:
                return reply
            now = time.monotonic()
            if missing_since is None or now - began > LONG_TRY_S:
                missing_since, pause_s = now, 0.02
            missing_s = now - missing_since
            if missing_s >= self._acceptance_s and (reply := await self._accept(request, standing)) is not None:
                return reply
            if missing_s >= self.patience_s:
                raise self._nobody(request)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.5)

    async def _try_once(self, request: Request, standing: Standing) -> Reply | None:
        """None: the shard is elsewhere, or nowhere; try again."""
        shard = self.shard_of(request)
        reply: Reply | None
        if self._worker.owns(shard):
            before = standing.give()
            reply = await self._bridge.ask(request, standing.accept)
        else:
            owner = await self._owners.of(shard)
            if owner is None or owner == self._url:
                self._owners.forget()
                return None
            before = standing.give()
            try:
                reply = await self._forward(owner, shard, request, standing)
            except HttpError:  # it has no place for it
                standing.take_back(before)
                raise
        if reply is not None and reply.status != "moved":
            return reply
        if reply is not None:
            standing.moved(before, reply)
        self._owners.forget()
        return None

    async def _forward(self, owner: str, shard: int, request: Request, standing: Standing) -> Reply | None:
        """Ask the owner while it stays the owner: a frozen one keeps its connections open and never answers."""
        asking = asyncio.ensure_future(self._forwarder.ask(owner, request, standing.accept))
        try:
            while not (await asyncio.wait({asking}, timeout=self._watch_s))[0]:
                if self._worker.owns(shard) or await self._owners.of(shard) != owner:
                    return None
            return asking.result()
        except NotGiven:
            return Reply("moved", request.invocation_id)
        finally:
            asking.cancel()

    async def _accept(self, request: Request, standing: Standing) -> Reply | None:
        if self._acceptor is None or not isinstance(request, Invoke) or request.wait or not self._worker.shards:
            return None
        standing.give()
        return await self._acceptor.accept(request, self.shard_of(request))

    def _check_alive(self) -> None:
        if (error := self._worker.failed) is not None:
            raise unavailable(f"this worker has failed and is about to end: {ours_only(error)}", retry_after_s=5)

    def _nobody(self, request: Request) -> HttpError:
        if not self._worker.shards:
            return unavailable("this worker is starting and does not know its shards yet")
        return unavailable(f"shard {self.shard_of(request)} has no owner that answers")


def end_at(limit: asyncio.Timeout, at_s: float) -> None:
    """Let it end then. Not one that is over already, and whose task has not run since then: that would be an error."""
    if not limit.expired():
        limit.reschedule(at_s)
