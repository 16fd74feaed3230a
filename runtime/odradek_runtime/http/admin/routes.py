"""Liveness, readiness and metrics of one worker: what probes and Prometheus ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from odradek_runtime.core.disclosure import ours_only
from odradek_runtime.http.admin.exposition import Exposition, joined
from odradek_runtime.http.admin.siblings import METRICS_PATH, READY_PATH
from odradek_runtime.http.ingress.errors import unavailable

if TYPE_CHECKING:
    import httpx
    from starlette.requests import Request as HttpRequest

    from odradek_runtime.core.metrics import Restore
    from odradek_runtime.http.admin.siblings import Siblings
    from odradek_runtime.http.ingress.port import Answering


class AdminRoutes:
    """The open endpoints of the admin port."""

    def __init__(self, worker: Answering, exposition: Exposition, siblings: Siblings) -> None:
        self._worker = worker
        self._exposition = exposition
        self._siblings = siblings

    async def health(self, request: HttpRequest) -> Response:
        """`GET /health`: 200 while the engine lives, whatever it is doing."""
        if (error := self._worker.failed) is not None:
            raise unavailable(f"the engine has failed: {ours_only(error)}", retry_after_s=5)
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(self, request: HttpRequest) -> Response:
        """`GET /ready`: 200 when every worker of this node has restored what it owns, else 503 that says who has not, and why."""
        response = await self.ready_alone(request)
        for index, answer in (await self._siblings.ask(READY_PATH)).items():
            if answer is None:
                raise unavailable(f"worker {index} of this node does not run, or does not answer")
            if answer.status_code != 200:
                raise unavailable(f"worker {index} of this node: {_message(answer)}")
        return response

    async def ready_alone(self, request: HttpRequest) -> Response:
        """The same for this worker alone."""
        snapshot = self._worker.snapshot()
        if self._worker.ready and self._worker.failed is None:
            body = {"status": "ready", "shards": sorted(snapshot.get("shards_owned", ()))}
            return Response(msgspec.json.encode(body), media_type="application/json")
        raise unavailable(self._why_not_ready())

    async def metrics(self, request: HttpRequest) -> Response:
        """`GET /metrics`: of all workers of this node."""
        if self._siblings.place.workers == 1:
            return await self.metrics_alone(request)
        answers = await self._siblings.ask(METRICS_PATH)
        texts = {index: answer.text for index, answer in answers.items() if answer is not None and answer.status_code == 200}
        texts[self._siblings.place.index] = self._exposition.text().decode()
        up = [f'odradek_worker_up{{worker="{index}"}} {int(index in texts)}' for index in range(self._siblings.place.workers)]
        head = ["# HELP odradek_worker_up 1 for each worker of this node that answers", "# TYPE odradek_worker_up gauge"]
        text = joined(texts) + "\n".join([*head, *up]) + "\n"
        return Response(text, headers={"content-type": Exposition.content_type})

    async def metrics_alone(self, request: HttpRequest) -> Response:
        """Of this worker alone, as its siblings ask for them."""
        return Response(self._exposition.text(), headers={"content-type": Exposition.content_type})

    def _why_not_ready(self) -> str:
        if (error := self._worker.failed) is not None:
            return f"the engine has failed: {ours_only(error)}"
        snapshot = self._worker.snapshot()
        if why := snapshot.get("withdrawn"):
            return f"this worker has given its shards to others until its disk takes stores again: {why}"
        if why := snapshot.get("log_trouble"):
            return why
        if why := snapshot.get("stalled"):
            return f"{why}: nothing else goes on. Restart this worker if it does not end, and put what takes long into a step"
        restoring = snapshot.get("restoring", {})
        if not restoring:
            return "waiting for the first assignment of shards"
        return "restoring shards " + ", ".join(_told(shard, part) for shard, part in sorted(restoring.items()))


def _message(answer: httpx.Response) -> str:
    try:
        return str(msgspec.json.decode(answer.content)["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return f"it answers {answer.status_code}"


def _told(shard: int, part: Restore) -> str:
    trouble = part.get("trouble")
    return f"{shard} ({part['done_records']} of {part['total_records']} records{f'; {trouble}' if trouble else ''})"
