"""The public routes: what each request asks for, checked, turned into an `Invoke` or `Attach`, and its answer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from odradek_runtime.core.disclosure import ours_only
from odradek_runtime.core.records.request import Attach, Invoke, Reply, Request
from odradek_runtime.http.ingress.admission import (
    IDEMPOTENCY_HEADER,
    check_content_type,
    check_payload,
    handler_headers,
    idempotency_key,
    read_body,
)
from odradek_runtime.http.ingress.delay import delay_s
from odradek_runtime.http.ingress.departure import unless_gone
from odradek_runtime.http.ingress.errors import HttpError, bad_field, unavailable
from odradek_runtime.http.ingress.responses import respond
from odradek_runtime.routing import fresh_id, id_hash, request_id, workflow_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request as HttpRequest

    from odradek_runtime.configuration.withheld import Withheld
    from odradek_runtime.core.disclosure import Disclosure
    from odradek_runtime.http.ingress.address import Address, Directory
    from odradek_runtime.http.ingress.budget import Budget, Share
    from odradek_runtime.http.ingress.dispatch import Dispatcher
    from odradek_runtime.http.ingress.port import Answering, Entropy


class Routes:
    """The endpoints behind the public port of one worker."""

    def __init__(
        self,
        directory: Directory,
        dispatcher: Dispatcher,
        worker: Answering,
        *,
        max_record_bytes: int,
        budget: Budget,
        disclosure: Disclosure,
        withheld: Withheld,
        clock: Callable[[], float] = time.time,
        entropy: Entropy | None = None,
    ) -> None:
        self._directory = directory
        self._dispatcher = dispatcher
        self._worker = worker
        self._max_record_bytes = max_record_bytes
        self._budget = budget
        self._disclosure = disclosure
        self._withheld = withheld
        self._clock = clock
        self._entropy = entropy or RandomBytes()
        self._next_shard = 0

    async def health(self, request: HttpRequest) -> Response:
        """`GET /odradek/health`: 200 while the engine lives."""
        if (error := self._worker.failed) is not None:
            raise unavailable(f"the engine has failed: {ours_only(error)}", retry_after_s=5)
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def invocation(self, request: HttpRequest) -> Response:
        """`GET /odradek/invocations/{id}/attach|output`."""
        wanted = request.path_params["id"]
        try:
            id_hash(wanted)
        except ValueError as error:
            raise bad_field("id", str(error)) from error
        self._budget.check()
        await self._unread(request)
        return respond(await self._ask(request, Attach(wanted, wait=request.url.path.endswith("/attach"))), None)

    async def workflow(self, request: HttpRequest) -> Response:
        """`GET /odradek/workflows/{name}/{key}/attach|output`: of its `run`."""
        _, _, _, name, *rest = request.scope["raw_path"].split(b"/")
        if len(rest) != 2 or rest[1] not in (b"attach", b"output"):
            raise HttpError(404, "expected /odradek/workflows/{name}/{key}/attach|output; a slash in a key is written %2F")
        address = self._directory.find(b"/".join((b"", name, rest[0], b"run", rest[1])))
        if address.handler.mode != "run":
            raise HttpError(404, f"{address.handler.service!r} is no workflow")
        self._budget.check()
        await self._unread(request)
        return respond(await self._ask(request, self._attach(request, address)), address.handler)

    async def handler(self, request: HttpRequest) -> Response:
        """Every other path: a handler's own."""
        address = self._directory.find(request.scope["raw_path"])
        allowed = "GET" if address.action in {"attach", "output"} else "POST"
        if request.method != allowed:
            raise HttpError(405, f"{request.method} is not for this path; use {allowed}", headers={"allow": allowed})
        self._budget.check()
        if allowed == "GET":
            await self._unread(request)
            return respond(await self._ask(request, self._attach(request, address)), address.handler)
        with self._budget.share() as share:
            return respond(await self._ask(request, await self._invoke(request, address, share)), address.handler)

    async def _unread(self, request: HttpRequest) -> None:
        """Take a body that means nothing here: as long as it stands in between, nobody hears that the client leaves."""
        with self._budget.share() as share:
            await read_body(request, self._max_record_bytes, share)

    def _attach(self, request: HttpRequest, address: Address) -> Attach:
        if address.handler.mode == "run":
            return Attach(workflow_id(address.handler.service, address.key), wait=address.action == "attach")
        key = idempotency_key(request)
        if key is None:
            raise bad_field(IDEMPOTENCY_HEADER, "says which invocation is meant; send the one it was started with")
        return Attach(request_id(address.handler.target, address.key, key), wait=address.action == "attach")

    async def _invoke(self, request: HttpRequest, address: Address, share: Share) -> Invoke:
        handler = address.handler
        check_content_type(handler, request.headers.get("content-type"))
        headers, repeatable = handler_headers(request, self._withheld), idempotency_key(request)
        at_ms = self._at_ms(request, address)
        payload = await read_body(request, self._max_record_bytes, share)
        if handler.mode == "run":
            id_, repeatable = workflow_id(handler.service, address.key), ""
        elif repeatable is not None:
            id_ = request_id(handler.target, address.key, repeatable)
        else:
            id_ = self._fresh_id(address.key)
        check_payload(handler, payload, id_, self._disclosure)
        return Invoke(
            invocation_id=id_,
            target=handler.target,
            key=address.key,
            payload=payload,
            headers=headers,
            wait=address.action == "call",
            idempotent=repeatable is not None,
            at_ms=at_ms,
        )

    def _at_ms(self, request: HttpRequest, address: Address) -> int:
        delay = request.query_params.get("delay")
        if delay is None:
            return 0
        if address.action != "send":
            raise bad_field("delay", "only a one-way request can be delayed; append /send to the path")
        seconds = delay_s(delay)
        return int((self._clock() + seconds) * 1000) if seconds else 0

    def _fresh_id(self, key: bytes) -> str:
        """A new id; without a key, one whose shard is this worker's own, so that nothing is forwarded."""
        identity = self._entropy(12)
        if key:
            return fresh_id(key, identity)
        shards = self._worker.shards
        for offset in range(shards):
            shard = (self._next_shard + offset) % shards
            if self._worker.owns(shard):
                self._next_shard = shard + 1
                return fresh_id(None, identity, hash_=shard)
        self._next_shard += 1
        return fresh_id(None, identity, hash_=self._next_shard % (shards or 1))

    async def _ask(self, request: HttpRequest, wanted: Request) -> Reply:
        return await unless_gone(request, self._dispatcher.ask(wanted))


class RandomBytes:
    """`os.urandom` by the page: asked for each request, it would give up the interpreter's lock each time."""

    def __init__(self) -> None:
        self._page = b""
        self._at = 0

    def __call__(self, count: int) -> bytes:
        """So many bytes that were never given before."""
        if self._at + count > len(self._page):
            self._page, self._at = os.urandom(max(4096, count)), 0
        self._at += count
        return self._page[self._at - count : self._at]
