"""`POST /replays` and `DELETE /replays/{id}` at the admin port: what is ordered, what is refused, and what the log says of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from odradek import App, Context
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, REPLAY, REPLAY_TALLY, Command, Replay, ReplayTally
from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import Access, Blocking
from odradek_runtime.http.admin.peer import PrivatePort
from odradek_runtime.http.admin.replay_audit import ReplayAudit
from odradek_runtime.http.admin.replays import ReplayRoutes
from odradek_runtime.http.ingress.guard import Guard
from odradek_runtime.http.ingress.table import Table
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.recovery.replay_report import reports
from tests.ingress.conftest import TOKEN
from tests.ingress.scripted import ScriptedWorker

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
    worker: ScriptedWorker
    admin: Guard
    audit: ReplayAudit

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

    def stands(self, part: Replay, **fields: Any) -> None:
        """This is what its shard's journal says of a part."""
        row = replace(part, **fields)
        self.worker.rows.setdefault(row.partition % 4, {})[keys.replay(row.id, row.partition)] = REPLAY.encode(row)

    def counted(self, shard: int, tally: ReplayTally) -> None:
        self.worker.rows.setdefault(shard, {})[keys.replay_tally(tally.id)] = REPLAY_TALLY.encode(tally)

    def look(self) -> None:
        """A minute has passed, and the audit looks."""
        self.audit._ask_at_s = 0.0
        asyncio.run(self.audit.look())

    def parts(self) -> list[Replay]:
        return [REPLAY.decode(order.payload or b"") for order in self.orders() if order.kind == "replay"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    app = App("shop", shards=4)

    @app.on(app.topic("orders", value=int))
    async def ordered(ctx: Context, value: int) -> None: ...

    assert callable(ordered)
    log, blocking, worker = EmbeddedLog(None, fsync=False, clean_interval_s=0), Blocking(), ScriptedWorker()
    log.create_topic("shop.commands", 4, {})
    log.create_topic("orders", 8, {})
    publisher = log.publisher("feed")
    publisher.publish([Output("orders", number, None, b"1") for number in range(8) for _ in range(3)], 1)
    routes = ReplayRoutes(app, worker, log, Access(TOKEN), blocking, Nobody(), "http://here")
    yield Desk(log, worker, Guard(Table(routes.table())), routes.audit)
    blocking.close()
    log.close()


@pytest.mark.parametrize("by", ["x" * 201, "two\nlines"])
def test_who_asks_is_refused_when_no_line_could_say_it(desk: Desk, by: str) -> None:
    said = "at most 200 printable characters, such as user@host"
    told = desk.post(asked_by=by).json()
    assert (told["metadata"], told["message"]) == ({"field": "$.asked_by"}, f"$.asked_by: {said}")
    assert desk.cancel("fix-7", by).json()["message"] == f"by: {said}"
    assert desk.orders() == []


def test_the_log_says_who_has_asked_for_what(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "odradek")
    assert desk.post().json()["new"] is True
    assert desk.post(asked_by="bob@desk").json()["new"] is False
    desk.cancel("fix-7", "bob@desk")
    ranges = "orders [1] 0 to 3, [6] 1 to 2, 4 offsets"
    assert [record.getMessage() for record in caplog.records if record.name == "odradek"] == [
        f"replay fix-7 begins: {ranges}, for shop/ordered, at most 50 records/s; asked for by ann@laptop",
        "replay fix-7 of orders, which has begun before, is asked for again by bob@desk",
        "replay fix-7 is to deliver no more; asked for by bob@desk",
    ]


def test_the_end_of_the_whole_is_told_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "odradek")
    desk.look()
    desk.post()
    one, other = desk.parts()
    desk.stands(one)
    desk.look()
    caplog.clear()
    desk.stands(one, status="done", records=3, next=3, ended_ms=int(time.time() * 1000))
    desk.look()
    desk.stands(other, status="done", records=1, next=2)
    desk.counted(1, ReplayTally("fix-7", started=3, ended_well=1, dead_letters=1))
    desk.counted(2, ReplayTally("fix-7", started=1))
    desk.look()
    assert caplog.messages == [], "two of four are under way"
    desk.counted(3, ReplayTally("fix-7", ended_well=1, left_out=1))
    desk.look()
    desk.look()
    said = "replay fix-7 of orders is over, done: 4 records, 2 ended well, 1 dead letter, 1 left out; asked for by ann@laptop"
    assert caplog.messages == [said]


def test_what_had_ended_before_its_shard_came_here_was_told_elsewhere(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "odradek")
    part = Replay("old", "orders", 1, 0, 3, 3, status="done", parts=1, ended_ms=int(time.time() * 1000) - 60_000, records=3)
    desk.worker.owned.discard(3)
    desk.stands(part)
    desk.look()
    desk.worker.owned.add(3)  # only now all shards can be asked
    desk.look()
    desk.stands(replace(part, id="young", status="running", next=0))
    desk.look()
    desk.stands(replace(part, id="young"))
    desk.look()
    said = "replay young of orders is over, done: 3 records, 0 ended well, 0 dead letters; asked for by nobody that is known"
    assert caplog.messages == [said]


@pytest.mark.parametrize(("owned", "lines"), [({1}, 1), ({2}, 0)])
def test_the_worker_that_has_its_first_part_tells_of_it(caplog: pytest.LogCaptureFixture, owned: set[int], lines: int) -> None:
    caplog.set_level(logging.INFO, "odradek")
    parts = [Replay("fix-7", "orders", number, 0, 3, 3, status="done", parts=2) for number in (1, 6)]
    rows = {part.partition % 4: {keys.replay(part.id, part.partition): REPLAY.encode(part)} for part in parts}
    worker = ScriptedWorker(owned=owned)

    async def known() -> wire.Replays:
        return wire.Replays(reports(row for own in rows.values() for row in own.items()), [])

    async def looked() -> None:
        audit = ReplayAudit(worker, known)
        await audit.look()
        worker.rows = rows
        await audit.look()

    asyncio.run(looked())
    assert len(caplog.messages) == lines


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parts": [{"partition": 1, "first": 0, "stop": 2}, *SOUND["parts"][1:]]}, "partition 1 goes from 0 to 3 in it, not"),
        ({"parts": SOUND["parts"][:1]}, "partition 6 is in it"),
        ({"parts": [*SOUND["parts"], {"partition": 2, "first": 0, "stop": 3}]}, "partition 2 is not in it"),
        ({"keys": ["YQ=="]}, "it is of all keys, and these are 1, or others"),
        ({"handler": "shop/ordered"}, "it is of orders for all handlers, not of orders for shop/ordered"),
    ],
)
def test_another_order_under_an_id_that_has_begun_is_refused(desk: Desk, fields: dict[str, Any], said: str) -> None:
    desk.post()
    for part in desk.parts():
        desk.stands(part)
    before = len(desk.orders())
    refused = desk.post(**fields)
    assert (refused.status_code, desk.orders()[before:]) == (409, [])
    assert refused.json()["message"].startswith(f"replay fix-7 has begun before, and differs: {said}")
    assert desk.post(dry_run=True, **fields).status_code == 200
    again = desk.post(asked_by="bob@desk", rate=1)
    assert (again.status_code, again.json()["new"]) == (200, False)
