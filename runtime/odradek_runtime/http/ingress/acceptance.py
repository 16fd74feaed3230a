"""One-way requests for a shard that nobody owns now: each becomes a record of the app's commands topic, and so durable.

What arrives while a batch is being written goes into the next one: one transaction for many requests. A command whose
invocation has begun already does nothing when it is read, so a request with a doubtful try behind it may end here too.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from odradek_runtime.core.records.formats import COMMAND, Command, Header
from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.core.topics.sizes import SMALL_BYTES, made_of
from odradek_runtime.core.topics.targets import limit_of
from odradek_runtime.http.ingress.errors import HttpError, unavailable
from odradek_runtime.log.port import LogError, Output, Publisher, TopicInfo
from odradek_runtime.log.sizes import record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("odradek.ingress")

BATCH = 1_000


def publisher_name(app: str, data_dir: Path) -> str:
    """A name that this worker alone uses, the same after a restart: the log keeps something for every name."""
    place = f"{socket.gethostname()}:{data_dir.resolve()}"
    return f"{app}.ingress.{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}"


def _nothing(_: str) -> TopicInfo | None:
    return None


class CommandsTopic:
    """Implements `dispatch.Acceptor`. `open_publisher` blocks, so it and what it gives are used in a thread.

    `describe`: looks up a topic, for how large a record it takes; blocks, too.
    """

    def __init__(
        self, app: str, open_publisher: Callable[[], Publisher], describe: Callable[[str], TopicInfo | None] = _nothing
    ) -> None:
        self._describe = describe
        self._topic = f"{app}.commands"
        self._open = open_publisher
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="odradek-acceptance")
        self._publisher: Publisher | None = None
        self._position = 0
        self._pending: list[tuple[Output, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def accept(self, request: Invoke, shard: int) -> Reply:
        """Durable when it returns. Raises HttpError 503 when the log does not take it, 413 when it is too large for it."""
        command = command_of(request)
        encoded = COMMAND.encode(command)
        await self._check_size(command, encoded)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((Output(self._topic, shard, None, encoded), written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await written
        return Reply("accepted", request.invocation_id)

    async def _check_size(self, command: Command, encoded: bytes) -> None:
        """One that is too large would be refused with all that are written beside it."""
        size = record_bytes(None, encoded)
        if size <= SMALL_BYTES:
            return
        try:
            info = await asyncio.get_running_loop().run_in_executor(self._thread, self._describe, self._topic)
        except LogError as error:
            raise unavailable(f"the shard has no owner, and the log cannot be asked: {error}") from None
        if info is not None and size > limit_of(info):
            over = f"the request takes {size} bytes, over the limit of {self._topic}, {limit_of(info)} bytes"
            raise HttpError(413, over + made_of(command.payload, command.key, command.headers))

    async def close(self) -> None:
        """End the batch that is being written."""
        if self._writing is not None:
            await self._writing
        if self._publisher is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._publisher.close)
        self._thread.shutdown(wait=False)

    async def _write_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                await self._write(batch)
        finally:
            self._writing = None

    async def _write(self, batch: list[tuple[Output, asyncio.Future[None]]]) -> None:
        outputs = [output for output, written in batch if not written.done()]
        refusal: Exception | None = None
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._publish, outputs)
        except LogError as error:
            log.warning("requests for shards without an owner could not be made durable: %s", error)
            refusal = unavailable(f"the shard has no owner, and the log does not take the request: {error}")
        for _, written in batch:
            if written.done():
                continue
            if refusal is None:
                written.set_result(None)
            else:
                written.set_exception(refusal)

    def _publish(self, outputs: list[Output]) -> None:
        if self._publisher is None:
            self._publisher = self._open()
            self._position = self._publisher.position()
        try:
            self._publisher.publish(outputs, self._position + len(outputs))
        except LogError:
            # Whether it was written is open: a new publisher settles that, the client is told to repeat the request.
            publisher, self._publisher = self._publisher, None
            publisher.close()
            raise
        self._position += len(outputs)


def command_of(request: Invoke) -> Command:
    """The command that starts what the request asks for."""
    headers = [Header(name, value.encode()) for name, value in request.headers.items()]
    return Command(
        kind="invoke",
        id=request.invocation_id,
        target=request.target,
        key=request.key or None,
        payload=request.payload,
        headers=headers,
        at_ms=request.at_ms,
        idempotent=True,  # the client may repeat it after a doubtful try: its completion is kept under its id
    )
