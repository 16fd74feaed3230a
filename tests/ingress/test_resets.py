"""`POST /resets` at the admin port: an order for the shards, written once; what cannot be moved is refused by its field."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from odradek import App, Context
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, POSITIONS, Command, Position, Positions
from odradek_runtime.http.admin.access import Access, Blocking
from odradek_runtime.http.admin.resets import ResetRoutes
from odradek_runtime.http.ingress.guard import Guard
from odradek_runtime.http.ingress.table import Table
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from tests.ingress.conftest import TOKEN
from tests.ingress.scripted import ScriptedWorker

SOUND = {"id": "reset-a", "app": "shop", "topic": "orders", "parts": [{"partition": 1, "offset": 0}, {"partition": 6, "offset": 2}]}


@dataclass
class Desk:
    """The routes alone, before a log that has the app's topics and four shards."""

    log: EmbeddedLog
    admin: Guard

    def post(self, shown: str = TOKEN, **fields: Any) -> httpx.Response:
        return asyncio.run(self._post({**SOUND, **fields}, {"authorization": f"Bearer {shown}"}))

    async def _post(self, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.admin), base_url="http://admin") as client:
            return await client.post("/resets", json=body, headers=headers)

    def orders(self) -> dict[int, list[Command]]:
        """What stands in the commands, by shard."""
        found: dict[int, list[Command]] = {}
        for shard in range(4):
            partition = Partition("shop.commands", shard)
            for batch in self.log.scan(partition, *self.log.offsets(partition)):
                found.setdefault(shard, []).extend(COMMAND.decode(message.value() or b"") for message in batch)
        return found


@pytest.fixture
def desk() -> Iterator[Desk]:
    app = App("shop", shards=4)

    @app.on(app.topic("orders", value=int))
    async def ordered(ctx: Context, value: int) -> None: ...

    assert callable(ordered)
    log, blocking = EmbeddedLog(None, fsync=False, clean_interval_s=0), Blocking()
    log.create_topic("shop.commands", 4, {})
    log.create_topic("orders", 8, {})
    publisher = log.publisher("feed")
    publisher.publish([Output("orders", number, None, b"1") for number in range(8) for _ in range(3)], 1)
    routes = ResetRoutes(app, ScriptedWorker(), log, Access(TOKEN), blocking)
    yield Desk(log, Guard(Table(routes.table())))
    blocking.close()
    log.close()


def test_an_order_goes_to_the_shards_of_its_partitions_once(desk: Desk) -> None:
    assert desk.post(asked_by="ann@laptop").json() == {"id": "reset-a", "new": True}
    assert desk.post(asked_by="ann@laptop").json() == {"id": "reset-a", "new": False}
    topic = desk.log.topic("orders")
    assert topic is not None
    assert desk.orders() == {
        1: [Command("reset", "reset-a", "ann@laptop", topic="orders", partition=1, offset=0, topic_id=topic.id)],
        2: [Command("reset", "reset-a", "ann@laptop", topic="orders", partition=6, offset=2, topic_id=topic.id)],
    }


def test_a_dry_run_says_what_would_move_and_moves_nothing(desk: Desk) -> None:
    refused = desk.post(dry_run=True)
    assert (refused.status_code, "topic shop.journal does not exist" in refused.json()["message"]) == (409, True)
    desk.log.create_topic("shop.journal", 4, {})
    publisher = desk.log.publisher("journal")
    for shard in range(4):
        places = [Position("orders", number, 2) for number in (shard, shard + 4)]
        record = POSITIONS.encode(Positions(4, 1, 1, 0, 0, places))
        publisher.publish([Output("shop.journal", shard, keys.POSITIONS, record)], shard + 1)
    parts = [{"partition": 1, "offset": 0}, {"partition": 6, "offset": 3}]
    told = desk.post(dry_run=True, parts=parts).json()
    assert (told["id"], told["new"]) == ("reset-a", False)
    back, forth = told["moves"]
    assert back == {"partition": 1, "now": 2, "to": 0, "again": 2, "skipped": 0, "gone": 0, "first": 0, "end": 3}
    assert (forth["partition"], forth["to"], forth["again"], forth["skipped"]) == (6, 3, 0, 1)
    assert desk.orders() == {}


def test_it_needs_the_token(desk: Desk) -> None:
    assert desk.post(shown="another").status_code == 401
    assert desk.orders() == {}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": "fix-7"}, "$.id: 'fix-7' is not reset- with up to 54"),
        ({"id": "reset-" + "x" * 55}, "$.id: "),
        ({"app": "bank"}, "$.app: the app 'shop' runs here, and not 'bank'"),
        ({"topic": "order"}, "$.topic: the app shop does not subscribe to 'order'"),
        ({"topic": "shop.commands"}, "$.topic: the app shop does not subscribe to 'shop.commands'"),
        ({"parts": []}, "$.parts: one for each partition, at least one"),
        ({"parts": [{"partition": 1, "offset": 0}] * 2}, "$.parts: one for each partition, at least one"),
        ({"parts": [{"partition": 8, "offset": 0}]}, "$.parts.partition: orders has partitions 0 to 7, not 8"),
        ({"parts": [{"partition": 1, "offset": 4}]}, "$.parts.offset: orders[1] has offsets 0 to 3, and 4 is beyond them"),
        ({"parts": [{"partition": 1, "offset": -1}]}, "$.parts.offset: "),
        ({"asked_by": "x" * 201}, "$.asked_by: at most 200 printable characters"),
        ({"asked_by": "two\nlines"}, "$.asked_by: at most 200 printable characters"),
        ({"parts": 5}, "body: Expected `array`, got `int`"),
    ],
)
def test_what_cannot_be_moved_is_refused_by_its_field(desk: Desk, fields: dict[str, Any], said: str) -> None:
    reply = desk.post(**fields)
    assert (reply.status_code, reply.json()["message"][: len(said)]) == (400, said)
    assert desk.orders() == {}
