"""Controls over the admin port: what is to be done with single invocations. Whichever worker is asked writes the order.

The order goes into the commands topic (`recovery.orders`), and each invocation's shard carries it out in its next epoch, once. What
cannot be done as things stand is said at once; what has changed until the order is read is for the shard to see.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import TYPE_CHECKING

from odradek_runtime.core.records.order import order
from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import answer, body_of
from odradek_runtime.http.admin.ordering import asked_by
from odradek_runtime.http.ingress.errors import HttpError, bad_field
from odradek_runtime.http.ingress.table import route
from odradek_runtime.recovery.orders import give
from odradek_runtime.routing import derived_id, id_hash
from odradek_runtime.worker.upkeep.sightings import ENDED, STATUSES, Sighting, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response
    from starlette.routing import Route

    from odradek_runtime.core.records.formats import Command
    from odradek_runtime.http.admin.access import Access, Blocking
    from odradek_runtime.http.admin.invocations import InvocationRoutes
    from odradek_runtime.log.port import Log

logger = logging.getLogger("odradek")

BODY_BYTES = 1024 * 1024
IDS = 10_000
NAMED = 5
ORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,59}")
FITS: Mapping[str, tuple[str, ...]] = {
    "cancel": STATUSES,
    "kill": STATUSES,
    "pause": tuple(each for each in STATUSES if each != "paused"),
    "resume": ("paused", "backing_off"),
    "purge": ENDED,
    "restart": (*STATUSES, "failed"),
}
"""What can be ordered, and in which statuses."""
INSTEAD: Mapping[str, str] = {
    "cancel": "it has ended",
    "kill": "it has ended",
    "pause": "it does not go on",
    "resume": "it is not paused",
    "purge": "it has not ended",
    "restart": "it has ended well",
}
"""What is said of one in another status."""


class ControlRoutes:
    """Of one worker. `invocations` finds them, wherever they are."""

    def __init__(self, app: str, log: Log, invocations: InvocationRoutes, access: Access, blocking: Blocking) -> None:
        self._app = app
        self._log = log
        self._invocations = invocations
        self._access = access
        self._blocking = blocking

    def table(self) -> list[Route]:
        """The routes behind the token."""
        return [route("POST", "/invocations/{verb}", self.many), route("POST", "/invocations/{id}/{verb}", self.one)]

    async def one(self, request: HttpRequest) -> Response:
        """`POST /invocations/{id}/{verb}` {"asked_by", "order"}: 404 where there is none, 409 where it cannot be done."""
        self._access.admit(request)
        verb, id_ = self._verb(request), request.path_params["id"]
        wanted = await body_of(request, wire.WantedControl, BODY_BYTES, empty=wire.WantedControl())
        self._invocations.shard_of(id_)
        done = await self._order(request, verb, [id_], wanted)
        if id_ in done.unknown:
            raise HttpError(404, f"there is no invocation {id_}: it has ended and nothing of it is kept, or it never was")
        if id_ in done.refused:
            raise HttpError(409, f"{id_}: {done.refused[id_]}")
        return answer(request, done)

    async def many(self, request: HttpRequest) -> Response:
        """`POST /invocations/{verb}` {"ids", "asked_by", "order"}: what cannot be done is said of each, and all others are done."""
        self._access.admit(request)
        verb = self._verb(request)
        wanted = await body_of(request, wire.WantedControl, BODY_BYTES)
        if not 0 < len(wanted.ids) <= IDS:
            raise bad_field("$.ids", f"1 to {IDS} ids, not {len(wanted.ids)}")
        for id_ in wanted.ids:
            self._invocations.shard_of(id_)
        return answer(request, await self._order(request, verb, list(dict.fromkeys(wanted.ids)), wanted))

    # --- inside ---

    def _verb(self, request: HttpRequest) -> str:
        verb = str(request.path_params["verb"])
        if verb not in FITS:
            raise HttpError(404, f"{verb[:60]!r} cannot be ordered; what can: {', '.join(FITS)}")
        return verb

    async def _order(self, request: HttpRequest, verb: str, ids: Sequence[str], wanted: wire.WantedControl) -> wire.Controlled:
        by = asked_by(wanted.asked_by, request)
        if wanted.order and not ORDER.fullmatch(wanted.order):
            raise bad_field("$.order", f"{wanted.order[:60]!r} is not 1 to 60 letters, digits, dots and dashes")
        told = wire.Controlled(wanted.order or f"{verb}-{secrets.token_hex(6)}", new=True)
        seen = {each.id: each for each in (await self._invocations.called(Wanted(list(ids), limit=len(ids)))).invocations}
        commands: list[tuple[int, Command]] = []
        for id_ in ids:
            if id_ not in seen:
                told.unknown.append(id_)
            elif why := why_not(verb, seen[id_], wanted.entry):
                told.refused[id_] = why
            else:
                if verb == "restart" and wanted.entry < 0:
                    told.becomes[id_] = derived_id(id_hash(id_), id_, told.order)
                command = order(verb, id_, by, ref=max(wanted.entry, -1), becomes=told.becomes.get(id_, ""))
                commands.append((self._invocations.shard_of(id_), command))
                told.ordered.append(id_)
        if commands:
            told.new = await self._blocking.run(lambda: give(self._log, self._app, told.order, commands))
            more = f" and {len(commands) - NAMED} others" if len(commands) > NAMED else ""
            named = ", ".join(told.ordered[:NAMED])
            logger.info("%s: %s is ordered of %s%s; asked for by %s", told.order, verb, named, more, by)
        return told


def why_not(verb: str, seen: Sighting, entry: int = -1) -> str:
    """Why this cannot be done with it as it stands; empty where it can."""
    if seen.status not in FITS[verb]:
        return f"{INSTEAD[verb]} ({seen.status})"
    if verb != "restart":
        return ""
    if entry < 0:
        return "" if seen.input else "what started it is not kept: it was large; send it again"
    unbegun = any(each.kind in ("key", "turn", "start") for each in seen.waits_for)  # one may be paused before it begins, too
    if unbegun or seen.status not in ("running", "suspended", "backing_off", "paused"):
        return f"it has not begun, or has ended ({seen.status}): leave the entry out"
    return "" if entry <= seen.entries else f"its journal has {seen.entries} entries, counted from 0"
