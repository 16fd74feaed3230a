"""Topics over the admin port: what the CLI needs beside a running worker, because the embedded log has one process.

Every path here needs the token of `worker.json`: who may read that file may write into the log.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import Access, Blocking, answer, body_of
from odradek_runtime.http.ingress.errors import HttpError, bad_field, suggestion, unavailable
from odradek_runtime.http.ingress.table import route
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Log, Output, Partition, Publisher, TopicInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request as HttpRequest
    from starlette.routing import Route

T = TypeVar("T")
BATCH_BYTES = 64 * 1024 * 1024
PAGE_RECORDS = 10_000
PAGE_BYTES = 8 * 1024 * 1024
PUBLISHERS_OPEN = 64


class Opened:
    """The publisher of one name, made by the first request for it; `lock`: for one request at a time."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.publisher: Publisher | None = None


class TopicRoutes:
    """Reads and writes the log beside a running worker."""

    def __init__(self, log: Log, access: Access, blocking: Blocking) -> None:
        self._log = log
        self._access = access
        self._blocking = blocking
        self._publishers: dict[str, Opened] = {}

    def table(self) -> list[Route]:
        """The routes, every one behind the token."""
        return [
            route("GET", "/topics", self.names),
            route("POST", "/topics", self.create),
            route("GET", "/topics/{topic}", self.topic),
            route("GET", "/topics/{topic}/offsets", self.offsets),
            route("GET", "/topics/{topic}/committed", self.committed),
            route("GET", "/topics/{topic}/records", self.read),
            route("POST", "/records", self.publish),
            route("GET", "/publishers", self.position),
            route("DELETE", "/publishers", self.close_publisher),
        ]

    async def names(self, request: HttpRequest) -> Response:
        """`GET /topics`."""
        self._access.admit(request)
        return answer(request, wire.TopicNames(list(await self._blocking.run(self._log.topics))))

    async def create(self, request: HttpRequest) -> Response:
        """`POST /topics` {"name", "partitions", "config"}."""
        self._access.admit(request)
        wanted = await body_of(request, wire.WireTopic, BATCH_BYTES)
        if wanted.partitions < 1:
            raise bad_field("$.partitions", f"must be at least 1, is {wanted.partitions}")
        info = await self._blocking.run(lambda: self._log.create_topic(wanted.name, wanted.partitions, wanted.config))
        return answer(request, _wire_topic(info))

    async def topic(self, request: HttpRequest) -> Response:
        """`GET /topics/{topic}`."""
        return answer(request, _wire_topic(await self._known(request)))

    async def offsets(self, request: HttpRequest) -> Response:
        """`GET /topics/{topic}/offsets?partition=`, with `at_ms=` the first offset at or after that time."""
        partition = await self._partition(request)
        at_ms = _number(request, "at_ms", -1)
        if at_ms >= 0:
            offset = await self._blocking.run(lambda: self._log.offset_at(partition, at_ms))
            return answer(request, wire.Bounds(offset, offset))
        return answer(request, wire.Bounds(*await self._blocking.run(lambda: self._log.offsets(partition))))

    async def committed(self, request: HttpRequest) -> Response:
        """`GET /topics/{topic}/committed?app=`: how far that app has read each partition; others are left out."""
        info = await self._known(request)
        app = request.query_params.get("app", "")
        if not app:
            raise bad_field("app", "is required: the app's name")
        partitions = [Partition(info.name, number) for number in range(info.partitions)]
        found = await self._blocking.run(lambda: self._log.committed_offsets(app, partitions))
        return answer(request, wire.Committed({partition.partition: offset for partition, offset in found.items()}))

    async def read(self, request: HttpRequest) -> Response:
        """`GET /topics/{topic}/records?partition=&offset=&stop=&max=`: committed records, a page of them."""
        partition = await self._partition(request)
        first, end = await self._blocking.run(lambda: self._log.offsets(partition))
        start = _number(request, "offset", first)
        stop = min(_number(request, "stop", end), end)
        limit = min(_number(request, "max", PAGE_RECORDS), PAGE_RECORDS)
        if start >= stop or limit < 1:
            return answer(request, wire.Page([], start))
        return answer(request, await self._blocking.run(lambda: self._page(partition, start, stop, limit)))

    async def publish(self, request: HttpRequest) -> Response:
        """`POST /records?name=&position=`, body a list of records: written together with the position, exactly once."""
        self._access.admit(request)
        records = await body_of(request, list[wire.WireRecord], BATCH_BYTES)
        outputs = [Output(r.topic, r.partition, r.key, r.value, r.headers, r.timestamp_ms) for r in records]
        position = _number(request, "position", -1)
        if position < 0:
            raise bad_field("position", "is required: how many source items are published when this batch is")
        async with self._publisher(request) as publisher:
            await self._blocking.run(lambda: publisher.publish(outputs, position))
        return answer(request, wire.Position(position))

    async def position(self, request: HttpRequest) -> Response:
        """`GET /publishers?name=`: how far earlier runs under this name have come."""
        self._access.admit(request)
        async with self._publisher(request) as publisher:
            return answer(request, wire.Position(await self._blocking.run(publisher.position)))

    async def close_publisher(self, request: HttpRequest) -> Response:
        """`DELETE /publishers?name=`: free it; its position stays."""
        self._access.admit(request)
        opened = self._publishers.pop(_name(request), None)
        if opened is not None:
            await self._close(opened)
        return Response(status_code=204)

    async def close(self) -> None:
        """Free every publisher."""
        while self._publishers:
            await self._close(self._publishers.popitem()[1])

    async def _known(self, request: HttpRequest) -> TopicInfo:
        self._access.admit(request)
        name = request.path_params["topic"]
        info = await self._blocking.run(lambda: self._log.topic(name))
        if info is None:
            names = await self._blocking.run(self._log.topics)
            raise HttpError(404, f"no topic {name!r}{suggestion(name, names, 'topics')}")
        return info

    async def _partition(self, request: HttpRequest) -> Partition:
        info = await self._known(request)
        number = _number(request, "partition", 0)
        if not 0 <= number < info.partitions:
            raise bad_field("partition", f"{info.name} has partitions 0 to {info.partitions - 1}, not {number}")
        return Partition(info.name, number)

    def _page(self, partition: Partition, start: int, stop: int, limit: int) -> wire.Page:
        records: list[wire.WireMessage] = []
        size = 0
        for batch in self._log.scan(partition, start, stop):
            for m in batch:
                records.append(wire.WireMessage(m.offset(), m.timestamp(), m.key(), m.value(), list(headers_of(m))))
                size += len(m.value() or b"")
                if len(records) >= limit or size >= PAGE_BYTES:
                    return wire.Page(records, m.offset() + 1)
        return wire.Page(records, stop)

    async def _close(self, opened: Opened) -> None:
        async with opened.lock:
            if opened.publisher is not None:
                await self._blocking.run(opened.publisher.close)

    @asynccontextmanager
    async def _publisher(self, request: HttpRequest) -> AsyncGenerator[Publisher]:
        """The one publisher of a name, for this request alone: a second one would fence it, whichever were kept."""
        name = _name(request)
        if name not in self._publishers and len(self._publishers) >= PUBLISHERS_OPEN:
            raise unavailable(f"{PUBLISHERS_OPEN} publishers are open already")
        opened = self._publishers.setdefault(name, Opened())
        async with opened.lock:
            if opened.publisher is None:
                try:
                    opened.publisher = await self._blocking.run(lambda: self._log.publisher(name))
                except HttpError:
                    self._publishers.pop(name, None)
                    raise
            yield opened.publisher


def _wire_topic(info: TopicInfo) -> wire.WireTopic:
    return wire.WireTopic(info.name, info.partitions, dict(info.config), info.id)


def _name(request: HttpRequest) -> str:
    name = request.query_params.get("name", "")
    if not name:
        raise bad_field("name", "is required: the name under which a run is recognised")
    return name


def _number(request: HttpRequest, field: str, default: int) -> int:
    text = request.query_params.get(field)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise bad_field(field, f"{text!r} is not a whole number of at least 0")
    return int(text)
