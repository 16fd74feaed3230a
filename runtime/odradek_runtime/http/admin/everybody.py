"""Everybody: a question to all workers of the app, or to the one that has a shard, whichever worker was asked.

Stands between the routes that answer for the whole app and the peers' private ports.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from odradek_runtime.http.admin import wire
from odradek_runtime.http.ingress.errors import unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from odradek_runtime.http.admin.access import Blocking
    from odradek_runtime.http.admin.peer import PrivatePort
    from odradek_runtime.http.ingress.peers import Owners
    from odradek_runtime.http.ingress.port import Answering
    from odradek_runtime.log.port import Log

T = TypeVar("T")
MOVES_S = 10.0
"""So long a shard may be on its way to another worker before that is said."""
LOOK_S = 0.2
ANSWER_S = 15.0


class Everybody:
    """The workers of one app, as one of them asks the others. `own_url`: its private one, by which it is known in the group."""

    def __init__(
        self, app: str, worker: Answering, log: Log, owners: Owners, private: PrivatePort, blocking: Blocking, own_url: str
    ) -> None:
        self._app = app
        self._worker = worker
        self._log = log
        self._owners = owners
        self._private = private
        self._blocking = blocking
        self._own_url = own_url

    async def all(self, path: str, kind: type[T], body: object) -> list[T]:
        """What the others answer to a POST; those that cannot be reached say nothing."""
        peers = await self._blocking.run(lambda: self._log.peers(self._app))
        urls = sorted({peer.url for peer in peers if peer.url and peer.url != self._own_url})
        found = await asyncio.gather(*(self._ask(url, path, kind, body) for url in urls))
        return [each for each in found if each is not None]

    async def owner(self, shard: int, here: Callable[[], Awaitable[T | None]], path: str, kind: type[T], body: object) -> T:
        """What the worker that has the shard answers, however often it moves meanwhile. `here`: None while it is not here."""
        until_s = time.monotonic() + MOVES_S
        while True:
            found = await here()
            if found is None and not self._worker.owns(shard):
                url = await self._owners.of(shard)
                found = await self._ask(url, path, kind, body) if url else None
            if found is not None:
                return found
            if time.monotonic() > until_s:
                raise unavailable(f"no worker has shard {shard} now: it is on its way to another, or none is left")
            self._owners.forget()
            await asyncio.sleep(LOOK_S)

    async def _ask(self, url: str, path: str, kind: type[T], body: object) -> T | None:
        told = await self._private.ask(url, path, timeout_s=ANSWER_S, method="POST", body=body)
        if told is None or told.status_code != 200:
            return None
        try:
            return wire.decode(told.content, wire.MSGPACK, kind)
        except ValueError:  # somebody else listens there
            return None
