"""Liveness, readiness and metrics of one worker: what probes and Prometheus ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from odradek_runtime.admin.exposition import Exposition
from odradek_runtime.ingress.errors import unavailable

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

    from odradek_runtime.ingress.port import Engine
    from odradek_runtime.metrics import Restore


class AdminRoutes:
    """The open endpoints of the admin port."""

    def __init__(self, engine: Engine, exposition: Exposition) -> None:
        self._engine = engine
        self._exposition = exposition

    async def health(self, request: HttpRequest) -> Response:
        """`GET /health`: 200 while the engine lives, whatever it is doing."""
        if (error := self._engine.failed) is not None:
            raise unavailable(f"the engine has failed: {error}", retry_after_s=5)
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(self, request: HttpRequest) -> Response:
        """`GET /ready`: 200 when every owned shard is restored, else 503 that says which are not."""
        snapshot = self._engine.snapshot()
        if self._engine.ready and self._engine.failed is None:
            body = {"status": "ready", "shards": sorted(snapshot.get("shards_owned", ()))}
            return Response(msgspec.json.encode(body), media_type="application/json")
        raise unavailable(self._why_not_ready())

    async def metrics(self, request: HttpRequest) -> Response:
        """`GET /metrics`."""
        return Response(self._exposition.text(), headers={"content-type": Exposition.content_type})

    def _why_not_ready(self) -> str:
        if (error := self._engine.failed) is not None:
            return f"the engine has failed: {error}"
        snapshot = self._engine.snapshot()
        if why := snapshot.get("withdrawn"):
            return f"this worker has given its shards to others until its disk takes stores again: {why}"
        if why := snapshot.get("log_trouble"):
            return why
        restoring = snapshot.get("restoring", {})
        if not restoring:
            return "waiting for the first assignment of shards"
        return "restoring shards " + ", ".join(_told(shard, part) for shard, part in sorted(restoring.items()))


def _told(shard: int, part: Restore) -> str:
    trouble = part.get("trouble")
    return f"{shard} ({part['done_records']} of {part['total_records']} records{f'; {trouble}' if trouble else ''})"
