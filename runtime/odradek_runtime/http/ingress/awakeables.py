"""The public routes of awakeables: whoever has an id gives the value, or the error, that its invocation waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from odradek_runtime.core.records.awakeable_ids import parsed
from odradek_runtime.core.records.request import Failure, Settle
from odradek_runtime.http.ingress.admission import read_body
from odradek_runtime.http.ingress.departure import unless_gone
from odradek_runtime.http.ingress.errors import HttpError, bad_field
from odradek_runtime.http.ingress.responses import respond

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from odradek_runtime.http.ingress.budget import Budget
    from odradek_runtime.http.ingress.dispatch import Dispatcher

Given = tuple[bytes | None, Failure | None]
"""A value, or an error."""


class Rejected(msgspec.Struct):
    """What the body of a rejection says, where it is JSON."""

    message: str
    code: int = 500
    metadata: dict[str, str] = {}


class AwakeableRoutes:
    """The endpoints of one worker; any takes any app's own awakeables."""

    def __init__(self, app: str, dispatcher: Dispatcher, *, max_record_bytes: int, budget: Budget) -> None:
        self._app = app
        self._dispatcher = dispatcher
        self._max_record_bytes = max_record_bytes
        self._budget = budget

    async def resolve(self, request: HttpRequest) -> Response:
        """`POST /odradek/awakeables/{id}/resolve`: the body is the value, JSON or, for an awakeable of bytes, whatever it is."""
        return await self._settle(request, lambda body: (body, None))

    async def reject(self, request: HttpRequest) -> Response:
        """`POST /odradek/awakeables/{id}/reject`: text, or JSON with message, code and metadata."""
        is_json = "json" in request.headers.get("content-type", "")
        return await self._settle(request, lambda body: (None, failure_of(body, is_json=is_json)))

    async def _settle(self, request: HttpRequest, given: Callable[[bytes], Given]) -> Response:
        wanted = request.path_params["id"]
        try:
            id_ = parsed(wanted)
        except ValueError as error:
            raise bad_field("id", str(error)) from error
        if id_.app != self._app:
            raise HttpError(404, f"{wanted} is an awakeable of the app {id_.app!r}, and this is {self._app!r}: ask a worker of it")
        self._budget.check()
        with self._budget.share() as share:
            body = await read_body(request, self._max_record_bytes, share)
            value, failure = given(body)
            settle = Settle(id_.invocation_id, id_.ref, id_.seal, value, failure)
            return respond(await unless_gone(request, self._dispatcher.ask(settle)), None)


def failure_of(body: bytes, *, is_json: bool) -> Failure:
    """The error that a body speaks of. A body that is an object is taken for JSON, also without a content type that says so.

    >>> failure_of(b"card expired", is_json=False)
    Failure(code=500, message='card expired', metadata={})
    """
    if is_json or body.lstrip().startswith(b"{"):
        try:
            rejected = msgspec.json.decode(body, type=Rejected)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_field("$", f'{error}; write text, or {{"message": "…", "code": 409, "metadata": {{}}}}') from error
        if not 400 <= rejected.code <= 599:
            raise bad_field("$.code", f"{rejected.code} is not between 400 and 599")
        return Failure(rejected.code, rejected.message, rejected.metadata)
    return Failure(500, body.decode("utf-8", "replace"))
