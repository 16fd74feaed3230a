"""Verifications and rebuilds over the admin port: whichever worker is asked, the one that has the shard does it.

A job's id says which shard it is of, so no worker has to remember what it has passed on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.access import answer, body_of
from odradek_runtime.http.admin.ordering import asked_by
from odradek_runtime.http.ingress.errors import HttpError, bad_field, unavailable
from odradek_runtime.http.ingress.table import route
from odradek_runtime.worker.upkeep.jobs import Job, Kind
from odradek_runtime.worker.upkeep.upkeep import NotHere, UpkeepRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request as HttpRequest
    from starlette.routing import Route

    from odradek_runtime.http.admin.access import Access
    from odradek_runtime.http.admin.peer import PrivatePort
    from odradek_runtime.http.ingress.peers import Owners
    from odradek_runtime.http.ingress.port import Answering
    from odradek_runtime.worker.upkeep.upkeep import Upkeep

logger = logging.getLogger("odradek")

PRIVATE_PATH = "/odradek/private/jobs"
ANSWER_S = 5.0
MOVES_S = 10.0
"""So long a shard may be on its way to another worker before that is said."""
LOOK_S = 0.2
BODY_BYTES = 64 * 1024
ELSEWHERE = 421
ID = re.compile(r"(verify|rebuild)-(\d{1,9})-[0-9a-f]{12}")


class JobRoutes:
    """Of one worker. `owners`: whose the shards are, in the admin port's loop."""

    def __init__(self, worker: Answering, owners: Owners, private: PrivatePort, access: Access) -> None:
        self._worker = worker
        self._owners = owners
        self._private = private
        self._access = access

    def table(self) -> list[Route]:
        """The routes behind the token."""
        return [
            route("POST", "/verifications", self.verify),
            route("GET", "/verifications/{id}", self.verification),
            route("POST", "/rebuilds", self.rebuild),
            route("GET", "/rebuilds/{id}", self.rebuilding),
        ]

    def private_table(self) -> list[Route]:
        """What this worker does for its peers."""
        return [
            route("POST", PRIVATE_PATH, self.do_here),
            route("GET", PRIVATE_PATH + "/{id}", self.look_here),
        ]

    async def verify(self, request: HttpRequest) -> Response:
        """`POST /verifications` {"shards": [..]}: without shards all of the app's. One that is under way is the same."""
        self._access.admit(request)
        wanted = await body_of(request, wire.WantedVerifications, BODY_BYTES)
        count = self._count()
        shards = range(count) if wanted.shards is None else wanted.shards
        for shard in shards:
            self._check(shard, count, "$.shards")
        by = asked_by(wanted.asked_by, request)
        logger.info("%s wants stores verified: of shards %s", by, ", ".join(map(str, shards)))
        return answer(request, wire.Jobs(await self._all("verify", list(shards), by)))

    async def rebuild(self, request: HttpRequest) -> Response:
        """`POST /rebuilds` {"shard": N}: its worker drops the store of this shard and restores it from the log."""
        self._access.admit(request)
        wanted = await body_of(request, wire.WantedRebuild, BODY_BYTES)
        self._check(wanted.shard, self._count(), "$.shard")
        by = asked_by(wanted.asked_by, request)
        logger.info("%s wants a store rebuilt: of shard %d", by, wanted.shard)
        return answer(request, await self._somewhere("rebuild", wanted.shard, by))

    async def verification(self, request: HttpRequest) -> Response:
        """`GET /verifications/{id}`."""
        return answer(request, await self._look(request, "verify"))

    async def rebuilding(self, request: HttpRequest) -> Response:
        """`GET /rebuilds/{id}`."""
        return answer(request, await self._look(request, "rebuild"))

    async def do_here(self, request: HttpRequest) -> Response:
        """A peer passes on what it was asked: 421 when the shard is not here."""
        wanted = await body_of(request, wire.WantedJob, BODY_BYTES)
        try:
            return answer(request, self._here(wanted.kind, wanted.shard, wanted.asked_by))
        except NotHere:
            raise HttpError(ELSEWHERE, f"shard {wanted.shard} is not here") from None

    async def look_here(self, request: HttpRequest) -> Response:
        """A peer asks how far a job is."""
        job = self._upkeep().find(request.path_params["id"])
        if job is None:
            raise HttpError(404, "no such job here")
        return answer(request, job)

    # --- inside ---

    def _upkeep(self) -> Upkeep:
        upkeep = self._worker.upkeep
        if upkeep is None:
            raise unavailable("the worker has not started yet")
        return upkeep

    def _count(self) -> int:
        self._upkeep()
        return self._worker.shards

    def _check(self, shard: int, count: int, field: str) -> None:
        if not 0 <= shard < count:
            raise bad_field(field, f"the app has shards 0 to {count - 1}, not {shard}")

    async def _all(self, kind: Kind, shards: Sequence[int], asked_by: str) -> list[Job]:
        return list(await asyncio.gather(*(self._somewhere(kind, shard, asked_by) for shard in dict.fromkeys(shards))))

    def _here(self, kind: Kind, shard: int, asked_by: str) -> Job:
        upkeep = self._upkeep()
        try:
            return upkeep.verify(shard, asked_by) if kind == "verify" else upkeep.rebuild(shard, asked_by)
        except UpkeepRefused as error:
            raise HttpError(409, str(error)) from error

    async def _somewhere(self, kind: Kind, shard: int, asked_by: str) -> Job:
        """At the worker that has the shard, however often it moves meanwhile."""
        until_s = time.monotonic() + MOVES_S
        while True:
            try:
                return self._here(kind, shard, asked_by)
            except NotHere:
                pass
            owner = await self._owners.of(shard)
            job = await self._ask_peer(owner, "POST", "", wire.WantedJob(kind, shard, asked_by)) if owner else None
            if job is not None:
                return job
            if time.monotonic() > until_s:
                raise unavailable(f"no worker has shard {shard} now: it is on its way to another, or none is left")
            self._owners.forget()
            await asyncio.sleep(LOOK_S)

    async def _look(self, request: HttpRequest, kind: Kind) -> Job:
        self._access.admit(request)
        id_ = request.path_params["id"]
        parts = ID.fullmatch(id_)
        if parts is None or parts[1] != kind:
            raise HttpError(404, f"{id_[:60]!r} is no id of such a job")
        if (job := self._upkeep().find(id_)) is not None:
            return job
        owner = None if self._worker.owns(int(parts[2])) else await self._owners.of(int(parts[2]))
        found = await self._ask_peer(owner, "GET", f"/{id_}", None) if owner else None
        if found is None:
            raise HttpError(404, f"{id_} is not known where its shard is now: it has moved meanwhile, or its worker is new")
        return found

    async def _ask_peer(self, url: str, method: str, path: str, body: wire.WantedJob | None) -> Job | None:
        """What the peer says; None when the job, or its shard, is not there. Raises what it refuses."""
        told = await self._private.ask(url, PRIVATE_PATH + path, timeout_s=ANSWER_S, method=method, body=body)
        try:
            if told is not None and told.status_code == 200:
                return wire.decode(told.content, wire.MSGPACK, Job)
            if told is not None and told.status_code == 409:
                raise HttpError(409, wire.decode(told.content, wire.JSON, wire.Refused).message)
        except ValueError:  # somebody else listens there
            return None
        return None
