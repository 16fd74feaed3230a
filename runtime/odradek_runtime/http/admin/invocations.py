"""Invocations over the admin port: which there are, how one stands, its journal. Whichever worker is asked answers for the app.

What is told comes from the roll of each worker, of its own shards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import answer, body_of
from odradek_runtime.http.ingress.errors import HttpError, bad_field, unavailable
from odradek_runtime.http.ingress.table import route
from odradek_runtime.routing import id_hash
from odradek_runtime.worker.upkeep.roll import NotHere
from odradek_runtime.worker.upkeep.sightings import ENDED, STATUSES, JournalSeen, Roll, RollPart, Wanted, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response
    from starlette.routing import Route

    from odradek_runtime.http.admin.access import Access, Blocking
    from odradek_runtime.http.admin.everybody import Everybody
    from odradek_runtime.http.ingress.port import Answering
    from odradek_runtime.worker.upkeep.roll import Roll as LocalRoll

CALL_PATH = "/odradek/private/roll"
ONE_PATH = "/odradek/private/sighting"
BODY_BYTES = 256 * 1024
LIMIT = 10_000
IDS = 1_000
FILTERS = ("id", "service", "handler", "key", "status", "older_s", "younger_s", "limit")


class InvocationRoutes:
    """Of one worker."""

    def __init__(self, worker: Answering, everybody: Everybody, access: Access, blocking: Blocking) -> None:
        self._worker = worker
        self._everybody = everybody
        self._access = access
        self._blocking = blocking

    def table(self) -> list[Route]:
        """The routes behind the token."""
        return [
            route("GET", "/invocations", self.all),
            route("GET", "/invocations/{id}", self.one),
            route("GET", "/invocations/{id}/journal", self.journal),
        ]

    def private_table(self) -> list[Route]:
        """What this worker says to its peers."""
        return [route("POST", CALL_PATH, self.call_here), route("POST", ONE_PATH, self.one_here)]

    async def all(self, request: HttpRequest) -> Response:
        """`GET /invocations?service=&handler=&key=&status=&older_s=&younger_s=&limit=&id=`: the oldest first."""
        self._access.admit(request)
        return answer(request, await self.called(wanted_of(request)))

    async def one(self, request: HttpRequest) -> Response:
        """`GET /invocations/{id}`."""
        self._access.admit(request)
        return answer(request, (await self.seen(request.path_params["id"])).invocation)

    async def journal(self, request: HttpRequest) -> Response:
        """`GET /invocations/{id}/journal`: it, and its entries in the order of its code."""
        self._access.admit(request)
        return answer(request, await self.seen(request.path_params["id"]))

    async def call_here(self, request: HttpRequest) -> Response:
        """What this worker sees, for the one that was asked."""
        return answer(request, await self._here(await body_of(request, Wanted, BODY_BYTES)))

    async def one_here(self, request: HttpRequest) -> Response:
        """One invocation, for the worker that was asked: 421 when its shard is not here."""
        wanted = await body_of(request, wire.WantedInvocation, BODY_BYTES)
        found = await self._one_here(wanted.shard, wanted.id)
        if found is None:
            raise HttpError(421, f"shard {wanted.shard} is not here")
        return answer(request, found)

    async def called(self, wanted: Wanted) -> Roll:
        """Those that are wanted, of all shards."""
        parts = [await self._here(wanted), *await self._everybody.all(CALL_PATH, RollPart, wanted)]
        return whole(parts, self._worker.shards, wanted.limit)

    async def seen(self, id_: str) -> JournalSeen:
        """One invocation, wherever it is. Raises HttpError 404."""
        shard = self.shard_of(id_)
        wanted = wire.WantedInvocation(shard, id_)
        found = await self._everybody.owner(shard, lambda: self._one_here(shard, id_), ONE_PATH, wire.SeenInvocation, wanted)
        if found.seen is None:
            raise HttpError(404, f"there is no invocation {id_}: it has ended and nothing of it is kept, or it never was")
        return found.seen

    def shard_of(self, id_: str) -> int:
        """Where an invocation of this id is, if there is one. Raises HttpError."""
        self._roll()
        try:
            return id_hash(id_) % self._worker.shards
        except ValueError as error:
            raise bad_field("id", str(error)) from error

    # --- inside ---

    def _roll(self) -> LocalRoll:
        upkeep = self._worker.upkeep
        if upkeep is None:
            raise unavailable("the worker has not started yet")
        return upkeep.roll

    async def _here(self, wanted: Wanted) -> RollPart:
        roll = self._roll()
        return await self._blocking.run(lambda: roll.call(wanted))

    async def _one_here(self, shard: int, id_: str) -> wire.SeenInvocation | None:
        roll = self._roll()
        try:
            return wire.SeenInvocation(await self._blocking.run(lambda: roll.journal(shard, id_)))
        except NotHere:
            return None


def wanted_of(request: HttpRequest) -> Wanted:
    """What the query asks for. Raises HttpError that names the parameter."""
    query = request.query_params
    unknown = sorted(set(query) - set(FILTERS))
    if unknown:
        raise bad_field(unknown[0], f"no filter of invocations; there are: {', '.join(FILTERS)}")
    statuses = query.getlist("status")
    for status in statuses:
        if status not in (*STATUSES, *ENDED):
            raise bad_field("status", f"{status[:60]!r} is none of {', '.join((*STATUSES, *ENDED))}")
    ids = query.getlist("id")
    if len(ids) > IDS:
        raise bad_field("id", f"{len(ids)} are more than {IDS}")
    limit = int(_number(query, "limit", 100.0))
    if not 0 <= limit <= LIMIT:
        raise bad_field("limit", f"{limit} is not between 0 and {LIMIT}")
    return Wanted(
        ids, query.get("service", ""), query.get("handler", ""), query.get("key"), statuses,
        _number(query, "older_s"), _number(query, "younger_s"), limit,
    )  # fmt: skip


def _number(query: Mapping[str, str], name: str, default: float = 0.0) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < 1e12:
        raise bad_field(name, f"{text[:60]!r} is no number from 0 on")
    return number
