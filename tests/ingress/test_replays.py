"""`POST /replays` and `DELETE /replays/{id}` at the admin port: what is ordered, what is refused, and what the log says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from odradek import App, Context
from odradek_runtime.admin.access import Access, Blocking
from odradek_runtime.admin.peer import PrivatePort
from odradek_runtime.admin.replays import ReplayRoutes
from odradek_runtime.formats import COMMAND, REPLAY, Command, Replay
from odradek_runtime.ingress.guard import Guard
from odradek_runtime.ingress.table import Table
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.log_embedded import EmbeddedLog
from tests.ingress.conftest import TOKEN
from tests.ingress.engine import ScriptedEngine

SOUND: dict[str, Any] = {
    "id": "fix-7",
    "topic": "orders",
    "parts": [{"partition": 1, "first": 0, "stop": 3}, {"partition": 6, "first": 1, "stop": 2}],
    "rate": 50,
    "asked_by": "ann@laptop",
}


class Nobody(PrivatePort):
    """There is no other worker."""

    def __init__(self) -> None: ...


@dataclass
class Desk:
    """The routes alone, before a log that has the app's topics, and an engine with four shards."""

    log: EmbeddedLog
    engine: ScriptedEngine
    admin: Guard

    def post(self, **fields: Any) -> httpx.Response:
        return asyncio.run(self._ask("POST", "/replays", {**SOUND, **fields}))

    def cancel(self, id_: str, by: str) -> httpx.Response:
        return asyncio.run(self._ask("DELETE", f"/replays/{id_}", None, {"by": by}))

    async def _ask(self, method: str, path: str, body: Any, query: dict[str, str] | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.admin), base_url="http://admin") as client:
            return await client.request(method, path, json=body, params=query, headers=headers)

    def orders(self) -> list[Command]:
        """What stands in the commands."""
        found: list[Command] = []
        for shard in range(4):
            partition = Partition("shop.commands", shard)
            for batch in self.log.scan(partition, *self.log.offsets(partition)):
                found.extend(COMMAND.decode(message.value() or b"") for message in batch)
        return found

    def parts(self) -> list[Replay]:
        return [REPLAY.decode(order.payload or b"") for order in self.orders() if order.kind == "replay"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    app = App("shop", shards=4)

    @app.on(app.topic("orders", value=int))
    async def ordered(ctx: Context, value: int) -> None: ...

    assert callable(ordered)
    log, blocking, engine = EmbeddedLog(None, fsync=False, clean_interval_s=0), Blocking(), ScriptedEngine()
    log.create_topic("shop.commands", 4, {})
    log.create_topic("orders", 8, {})
    publisher = log.publisher("feed")
    publisher.publish([Output("orders", number, None, b"1") for number in range(8) for _ in range(3)], 1)
    routes = ReplayRoutes(app, engine, log, Access(TOKEN), blocking, Nobody(), "http://here")
    yield Desk(log, engine, Guard(Table(routes.table())))
    blocking.close()
    log.close()


@pytest.mark.parametrize("by", ["x" * 201, "two\nlines"])
def test_who_asks_is_refused_when_no_line_could_say_it(desk: Desk, by: str) -> None:
    said = "at most 200 printable characters, such as user@host"
    told = desk.post(asked_by=by).json()
    assert (told["metadata"], told["message"]) == ({"field": "$.asked_by"}, f"$.asked_by: {said}")
    assert desk.cancel("fix-7", by).json()["message"] == f"by: {said}"
    assert desk.orders() == []
