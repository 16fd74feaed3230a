"""One thread, one event loop, several HTTP servers: uvicorn on sockets that are bound already."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import uvicorn

from odradek_runtime.http.ingress.browsers import Browsers
from odradek_runtime.http.ingress.door import Door
from odradek_runtime.http.ingress.guard import Guard
from odradek_runtime.http.ingress.protocol import BoundedProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future

    from starlette.types import ASGIApp

log = logging.getLogger("odradek.ingress")

T = TypeVar("T")
LOOK_S = 1.0
"""How often the connections of a port are looked at."""


class HttpThread:
    """Runs servers until it is stopped. `start` returns when the loop runs, `serve` when the socket is being served."""

    def __init__(self, name: str = "odradek-http") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._servers: dict[str, tuple[uvicorn.Server, asyncio.Task[None]]] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._stopping: list[Future[None]] = []

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def serve(self, name: str, app: ASGIApp, sock: socket.socket, *, grace_s: int, door: Door | None = None) -> None:
        """Serve an app on a bound socket; `stop_serving` gives its open requests `grace_s` to end. `door`: the port's limits."""
        self.call(self._serve(name, app, sock, grace_s, door or Door()))

    def stop_serving(self, name: str) -> None:
        """Close the listening socket now; `stop` waits until the open requests have ended or their grace is over."""
        self._stopping.append(asyncio.run_coroutine_threadsafe(self._stop_serving(name), self.loop))

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = 30.0) -> T:
        """Run a coroutine in the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def stop(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Stop every server, run `last` in the loop, end the thread."""
        if not self._thread.is_alive():
            self.loop.close()
            return
        for name in list(self._servers):
            self.stop_serving(name)
        for stopping in self._stopping:
            stopping.result()
        self.call(self._wind_up(last))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _serve(self, name: str, app: ASGIApp, sock: socket.socket, grace_s: int, door: Door) -> None:
        config = uvicorn.Config(
            Browsers(Guard(app), door),
            http=cast("Any", partial(BoundedProtocol, door=door)),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            date_header=False,
            proxy_headers=False,  # nothing here asks who the client of a proxy is
            timeout_keep_alive=door.limits.idle_s,
            timeout_graceful_shutdown=grace_s,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        self._servers[name] = server, task
        self._watching.add(watching := asyncio.create_task(watch(server, task)))
        watching.add_done_callback(self._watching.discard)
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)

    async def _stop_serving(self, name: str) -> None:
        found = self._servers.pop(name, None)
        if found is not None:
            server, task = found
            server.should_exit = True
            await task

    async def _wind_up(self, last: Callable[[], Awaitable[None]] | None) -> None:
        if last is not None:
            await last()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.loop.shutdown_default_executor()


async def watch(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    """End connections that take too long, until the last of this server is closed."""
    loop = asyncio.get_running_loop()
    while not serving.done():
        await asyncio.sleep(LOOK_S)
        _look(server, loop.time())


def _look(server: uvicorn.Server, now_s: float) -> None:
    """A function of its own: what the last one was is not kept until the next look."""
    for connection in tuple(server.server_state.connections):
        cast("BoundedProtocol", connection).check(now_s)
