"""What is known of the invocation that a request asks for, so that an error never invites to start it a second time.

Whoever cannot be given the result is told one of three things: it does not exist, and the request may be repeated; it exists, and
where its result will be; or whether it exists is open, and how to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from odradek_runtime.core.records.request import Invoke, Request
from odradek_runtime.http.ingress.errors import ID_HEADER, HttpError

if TYPE_CHECKING:
    from odradek_runtime.core.records.request import Reply

Exists = Literal["no", "unknown", "yes"]


def attach_path(invocation_id: str) -> str:
    """Where the result of an invocation is, or will be."""
    return f"/odradek/invocations/{invocation_id}/attach"


class Standing:
    """Of one request, from its arrival to its answer.

    Example: `before = standing.give()` as the request is handed to an engine, `standing.take_back(before)` if that surely did
    nothing with it, `standing.accept()` once the engine says that the invocation is durable.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.exists: Exists = "no"

    def give(self) -> Exists:
        """An engine, or the log, is given the request: from now on its invocation may exist. What was known before."""
        before = self.exists
        if before == "no" and isinstance(self.request, Invoke):
            self.exists = "unknown"
        return before

    def take_back(self, before: Exists) -> None:
        """Whoever was given it surely did nothing with it."""
        if self.exists == "unknown":
            self.exists = before

    def accept(self) -> None:
        """Its invocation is durable."""
        self.exists = "yes"

    def moved(self, before: Exists, reply: Reply) -> None:
        """The engine that was given it is not, or no longer, the owner."""
        if not reply.doubtful:
            self.take_back(before)

    def refused(self, error: HttpError) -> HttpError:
        """This error, with what the client must know before it repeats anything."""
        if self.exists == "no":
            started = "; nothing was started" if isinstance(self.request, Invoke) else ""
            return self._with(error, f"{started}; the request may be repeated", error.headers, {})
        id_ = self.request.invocation_id
        headers = {name: value for name, value in error.headers.items() if name != "retry-after" or self._repeatable}
        metadata = {"invocationId": id_, "attach": attach_path(id_), "exists": self.exists}
        return self._with(error, f"; {self._found()}; {self._repeating()}", {**headers, ID_HEADER: id_}, metadata)

    @property
    def _repeatable(self) -> bool:
        return not isinstance(self.request, Invoke) or self.request.idempotent

    def _found(self) -> str:
        id_ = self.request.invocation_id
        if self.exists == "yes":
            return f"the invocation {id_} has been accepted and goes on: GET {attach_path(id_)} waits for its result"
        return f"whether the invocation {id_} has been accepted is not known: GET {attach_path(id_)} tells (404: it has not)"

    def _repeating(self) -> str:
        if self._repeatable:
            return "the request may be repeated as it is"
        surely = "starts" if self.exists == "yes" else "may start"
        return f"without an idempotency-key, repeating the request {surely} a second one"

    def _with(self, error: HttpError, more: str, headers: dict[str, str], metadata: dict[str, str]) -> HttpError:
        return HttpError(error.code, error.message + more, headers=headers, metadata={**error.metadata, **metadata})
