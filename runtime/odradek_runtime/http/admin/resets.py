"""Resets over the admin port: positions of the app that runs are ordered elsewhere. Whichever worker is asked writes the order.

The order goes into the commands topic (`orders`); each shard carries out its part in its next epoch (`resets`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from odradek_runtime.core.epoch import RESET
from odradek_runtime.core.lifecycle.resets import RESET_ID
from odradek_runtime.core.records.formats import Command
from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import Access, Blocking, answer, body_of
from odradek_runtime.http.admin.ordering import Ordering, asked_by
from odradek_runtime.http.ingress.errors import HttpError, bad_field, suggestion
from odradek_runtime.http.ingress.table import route
from odradek_runtime.log.port import Log, TopicInfo
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.reset_plan import NoSuchPosition, plan

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response
    from starlette.routing import Route

    from odradek import App
    from odradek_runtime.http.ingress.port import Answering

logger = logging.getLogger("odradek")

BODY_BYTES = 1024 * 1024


class ResetRoutes:
    """Of one worker."""

    def __init__(self, app: App, worker: Answering, log: Log, access: Access, blocking: Blocking) -> None:
        self._app = app.name
        self._topics = sorted({subscription.topic.name for subscription in app.subscriptions()})
        self._worker = worker
        self._log = log
        self._access = access
        self._blocking = blocking
        self._ordering = Ordering(worker, log, blocking)

    def table(self) -> list[Route]:
        """The routes behind the token."""
        return [route("POST", "/resets", self.order)]

    async def order(self, request: HttpRequest) -> Response:
        """`POST /resets` {"id", "app", "topic", "parts": [{"partition", "offset"}]}: the same id again does nothing."""
        self._access.admit(request)
        wanted = await body_of(request, wire.WireReset, BODY_BYTES)
        by = asked_by(wanted.asked_by, request)
        self._check(wanted)
        topic = await self._ordering.topic(wanted.topic)
        for part in wanted.parts:
            await self._check_part(topic, part)
        if wanted.dry_run:
            moves = await self._blocking.run(lambda: self._planned(wanted))
            return answer(request, wire.Ordered(wanted.id, new=False, moves=moves))
        orders = [self._order(wanted.id, topic, part, by) for part in wanted.parts]
        new = await self._blocking.run(lambda: give(self._log, self._app, wanted.id, orders))
        logger.info("%s of %s %s; asked for by %s", wanted.id, topic.name, "is ordered" if new else "was ordered before", by)
        return answer(request, wire.Ordered(wanted.id, new))

    def _check(self, wanted: wire.WireReset) -> None:
        """What can be said without the log. Raises HttpError."""
        if not RESET_ID.fullmatch(wanted.id):
            raise bad_field("$.id", f"{wanted.id[:60]!r} is not {RESET} with up to 54 letters, digits, dots and dashes behind it")
        if wanted.app != self._app:
            raise bad_field("$.app", f"the app {self._app!r} runs here, and not {wanted.app[:60]!r}")
        if wanted.topic not in self._topics:
            hint = suggestion(wanted.topic, self._topics, "topics")
            raise bad_field("$.topic", f"the app {self._app} does not subscribe to {wanted.topic!r}{hint}")
        self._ordering.check([part.partition for part in wanted.parts])

    async def _check_part(self, topic: TopicInfo, part: wire.WireTarget) -> None:
        first, end = await self._ordering.bounds(topic, part.partition)
        if not 0 <= part.offset <= end:
            said = f"{topic.name}[{part.partition}] has offsets {first} to {end}, and {part.offset} is beyond them"
            raise bad_field("$.parts.offset", said)

    def _planned(self, wanted: wire.WireReset) -> list[wire.WireMove]:
        """Blocks. What it would do. Raises HttpError, LogError."""
        targets = {part.partition: part.offset for part in wanted.parts}
        try:
            moves = plan(self._log, self._app, wanted.topic, None, lambda _, where: targets.get(where.partition, 0))
        except NoSuchPosition as error:
            raise HttpError(409, str(error)) from None
        return [
            wire.WireMove(m.partition.partition, m.now, m.to, m.again, m.skipped, m.gone, m.first, m.end)
            for m in moves
            if m.partition.partition in targets
        ]

    def _order(self, id_: str, topic: TopicInfo, part: wire.WireTarget, by: str) -> tuple[int, Command]:
        command = Command("reset", id_, by, topic=topic.name, partition=part.partition, offset=part.offset, topic_id=topic.id)
        return part.partition % self._worker.shards, command
