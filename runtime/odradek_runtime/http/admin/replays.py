"""Replays over the admin port: begin one, see all, cancel one. Whichever worker is asked answers for the whole app.

What is begun is written into the commands topic (`orders`); what is told comes from the shards' own rows, of peers at their private
ports.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from starlette.responses import Response

from odradek_runtime.core.epoch import RESET
from odradek_runtime.core.records.dead_letter import letters
from odradek_runtime.core.records.formats import REPLAY, Command, Replay
from odradek_runtime.core.records.sieve import REPLAY_ID
from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import Access, Blocking, answer, body_of
from odradek_runtime.http.admin.ordering import Ordering, asked_by
from odradek_runtime.http.admin.replay_audit import ReplayAudit
from odradek_runtime.http.ingress.errors import HttpError, bad_field, suggestion
from odradek_runtime.http.ingress.table import route
from odradek_runtime.log.port import Log, TopicInfo
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.replay_report import ReplayReport, reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request as HttpRequest
    from starlette.routing import Route

    from odradek import App
    from odradek_runtime.http.admin.peer import PrivatePort
    from odradek_runtime.http.ingress.port import Answering

logger = logging.getLogger("odradek")

ROWS_PATH = "/odradek/private/replays"
ANSWER_S = 5.0
BODY_BYTES = 4 * 1024 * 1024
NAMED = 8
"""So many partitions of a replay are named in the line that says that it begins."""
KEYS = 1_000
"""A replay is for so many keys at most: each of its parts carries them."""


class ReplayRoutes:
    """Of one worker. `own_url`: its private one, by which it is known in the group."""

    def __init__(
        self,
        app: App,
        worker: Answering,
        log: Log,
        access: Access,
        blocking: Blocking,
        private: PrivatePort,
        own_url: str,
    ) -> None:
        self._app = app
        self._worker = worker
        self._log = log
        self._access = access
        self._blocking = blocking
        self._private = private
        self._ordering = Ordering(worker, log, blocking)
        self._own_url = own_url
        self._handlers: dict[str, list[str]] = {}
        self._letters = letters(app)
        self.audit = ReplayAudit(worker, self._known)
        for subscription in app.subscriptions():
            self._handlers.setdefault(subscription.topic.name, []).append(subscription.handler.target)

    def table(self) -> list[Route]:
        """The routes behind the token."""
        return [
            route("GET", "/replays", self.all),
            route("POST", "/replays", self.begin),
            route("DELETE", "/replays/{id}", self.cancel),
        ]

    def private_table(self) -> list[Route]:
        """What this worker says to its peers."""
        return [route("GET", ROWS_PATH, self.rows)]

    async def all(self, request: HttpRequest) -> Response:
        """`GET /replays`: those that run, and those that have run within a week."""
        self._access.admit(request)
        return answer(request, await self._known())

    async def begin(self, request: HttpRequest) -> Response:
        """`POST /replays` {"id", "topic", "parts": [{"partition", "first", "stop"}], …}: the same id again does nothing."""
        self._access.admit(request)
        wanted = await body_of(request, wire.WireReplay, BODY_BYTES)
        wanted.asked_by = asked_by(wanted.asked_by, request)
        self._check(wanted)
        topic = await self._ordering.topic(wanted.topic)
        for part in wanted.parts:
            await self._check_part(topic, part)
        handlers = [name for name in self._handlers.get(wanted.topic, ()) if wanted.handler in ("", name)]
        begun = wire.Begun(wanted.id, new=False, handlers=handlers, letters=wanted.topic not in self._handlers)
        if wanted.dry_run:
            return answer(request, begun)
        self._check_same(wanted, (await self._known()).replays)
        orders = self._orders(wanted, topic)
        begun.new = await self._blocking.run(lambda: give(self._log, self._app.name, f"replay-{wanted.id}", orders))
        _tell(wanted, begun)
        return answer(request, begun)

    async def cancel(self, request: HttpRequest) -> Response:
        """`DELETE /replays/{id}?by=`: nothing more is delivered; what has been delivered goes on."""
        self._access.admit(request)
        id_ = request.path_params["id"]
        if not REPLAY_ID.fullmatch(id_):
            raise bad_field("id", f"{id_[:60]!r} is no id of a replay")
        by = asked_by(request.query_params.get("by", ""), request, "by")
        command = Command(kind="cancel_replay", id=id_, target=by)
        orders = [(shard, command) for shard in range(self._worker.shards)]
        new = await self._blocking.run(lambda: give(self._log, self._app.name, f"cancel-{id_}-{secrets.token_hex(4)}", orders))
        logger.info("replay %s is to deliver no more; asked for by %s", id_, by)
        return answer(request, wire.Begun(id_, new))

    async def rows(self, request: HttpRequest) -> Response:
        """What this worker knows, for the one that was asked."""
        return answer(request, self._own())

    # --- inside ---

    def _own(self) -> wire.ReplayRows:
        found = self._worker.replay_rows()
        return wire.ReplayRows(sorted(found), [row for rows in found.values() for row in rows.items()])

    async def _known(self) -> wire.Replays:
        """What all workers say."""
        shards, rows = set[int](), list[tuple[bytes, bytes]]()
        for known in [self._own(), *await self._of_peers()]:
            fresh = set(known.shards) - shards
            if fresh == set(known.shards):  # a shard that has just moved may be told of twice
                rows.extend(known.rows)
                shards |= fresh
        unknown = sorted(set(range(self._worker.shards)) - shards)
        return wire.Replays(reports(rows), unknown)

    async def _of_peers(self) -> list[wire.ReplayRows]:
        peers = await self._blocking.run(lambda: self._log.peers(self._app.name))
        urls = {peer.url for peer in peers if peer.url and peer.url != self._own_url}
        found = await asyncio.gather(*(self._of_peer(url) for url in sorted(urls)))
        return [rows for rows in found if rows is not None]

    async def _of_peer(self, url: str) -> wire.ReplayRows | None:
        told = await self._private.ask(url, ROWS_PATH, timeout_s=ANSWER_S)
        if told is None or told.status_code != 200:
            return None
        try:
            return wire.decode(told.content, wire.MSGPACK, wire.ReplayRows)
        except ValueError:  # somebody else listens there
            return None

    def _check(self, wanted: wire.WireReplay) -> None:
        """What can be said without the log. Raises HttpError."""
        if not REPLAY_ID.fullmatch(wanted.id) or wanted.id.startswith(RESET):
            said = f"{wanted.id[:60]!r} is not 1 to 60 letters, digits, dots and dashes, or begins with {RESET}"
            raise bad_field("$.id", said)
        handlers = self._handlers.get(wanted.topic)
        if handlers is None and wanted.topic not in self._letters:
            hint = suggestion(wanted.topic, [*self._handlers, *self._letters], "topics")
            raise bad_field("$.topic", f"the app {self._app.name} does not subscribe to {wanted.topic!r}{hint}")
        if wanted.handler and wanted.handler not in (handlers if handlers is not None else self._app.handlers()):
            hint = suggestion(wanted.handler, handlers or (), "handlers")
            raise bad_field("$.handler", f"{wanted.handler!r} does not subscribe to {wanted.topic}{hint}")
        if len(wanted.keys) > KEYS:
            raise bad_field("$.keys", f"{len(wanted.keys)} are more than {KEYS}: replay all, and let the handler choose")
        if not 0 <= wanted.rate < 1e9:
            raise bad_field("$.rate", f"{wanted.rate} is no number of records a second")
        self._ordering.check([part.partition for part in wanted.parts])

    def _check_same(self, wanted: wire.WireReplay, known: Sequence[ReplayReport]) -> None:
        """Raise HttpError 409 if this id is another replay's."""
        before = next((each for each in known if each.id == wanted.id), None)
        differing = difference(wanted, before) if before is not None else ""
        if differing:
            remedy = "What is to be delivered beside it needs an id of its own"
            raise HttpError(409, f"replay {wanted.id} has begun before, and differs: {differing}. {remedy}")

    async def _check_part(self, topic: TopicInfo, part: wire.WirePart) -> None:
        _, end = await self._ordering.bounds(topic, part.partition)
        if not 0 <= part.first <= part.stop <= end:
            said = f"{part.first} to {part.stop} is no range of {topic.name}[{part.partition}], which ends at {end}"
            raise bad_field("$.parts", said)

    def _orders(self, wanted: wire.WireReplay, topic: TopicInfo) -> list[tuple[int, Command]]:
        rate = wanted.rate / len(wanted.parts)
        orders: list[tuple[int, Command]] = []
        for part in wanted.parts:
            row = Replay(
                wanted.id, topic.name, part.partition, part.first, part.first, part.stop, topic.id, wanted.handler,
                wanted.keys, rate, wanted.asked_by, parts=len(wanted.parts),
            )  # fmt: skip
            orders.append((part.partition % self._worker.shards, Command(kind="replay", id=row.id, payload=REPLAY.encode(row))))
        return orders


def _tell(wanted: wire.WireReplay, begun: wire.Begun) -> None:
    """Who has asked for what, in the log."""
    if not begun.new:
        logger.info("replay %s of %s, which has begun before, is asked for again by %s", wanted.id, wanted.topic, wanted.asked_by)
        return
    named = [f"[{part.partition}] {part.first} to {part.stop}" for part in wanted.parts[:NAMED]]
    if len(wanted.parts) > NAMED:
        named.append(f"{len(wanted.parts) - NAMED} partitions more")
    what = "dead letters, back to where they failed" if begun.letters else f"for {', '.join(begun.handlers)}"
    keys = f", of {len(wanted.keys)} keys" if wanted.keys else ""
    rate = f"at most {wanted.rate:g} records/s" if wanted.rate else "at full speed"
    offsets = sum(part.stop - part.first for part in wanted.parts)
    logger.info(
        "replay %s begins: %s %s, %d offsets, %s%s, %s; asked for by %s",
        wanted.id, wanted.topic, ", ".join(named), offsets, what, keys, rate, wanted.asked_by,
    )  # fmt: skip


def difference(wanted: wire.WireReplay, before: ReplayReport) -> str:
    """What was otherwise in the replay of this id that has begun; empty where nothing was. Its pace is none of it."""
    if (before.topic, before.handler) != (wanted.topic, wanted.handler):
        was, now = (f"of {each.topic} for {each.handler or 'all handlers'}" for each in (before, wanted))
        return f"it is {was}, not {now}"
    if set(before.keys) != set(wanted.keys):
        return f"it is of {len(before.keys) or 'all'} keys, and these are {len(set(wanted.keys)) or 'all'}, or others"
    ranges = {part.partition: (part.first, part.stop) for part in before.parts}
    asked = {part.partition: (part.first, part.stop) for part in wanted.parts}
    whole = len(ranges) >= before.parts_due
    for number in sorted({*ranges, *asked}):
        if number not in asked or (whole and number not in ranges):
            return f"partition {number} is {'' if number in ranges else 'not '}in it"
        if number in ranges and ranges[number] != asked[number]:
            return "partition {} goes from {} to {} in it, not from {} to {}".format(number, *ranges[number], *asked[number])
    return ""
