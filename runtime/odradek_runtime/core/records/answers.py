"""Answers: how the end of an invocation is told, to a caller by a command and to HTTP by a reply.

Leaves: whoever ends an invocation, and whoever finds one that has ended, makes them here.
"""

from __future__ import annotations

from .formats import Command
from .request import Failure, Reply


def completion(app: str, id_: str, ref: int, result: bytes | None, failure: Failure | None) -> Command:
    """The command that brings a result to the invocation that waits for it; `name` is the app it goes to."""
    return Command(kind="complete", id=id_, ref=ref, payload=result, failure=failure, name=app)


def reply_of(id_: str, result: bytes | None, failure: Failure | None) -> Reply:
    """What HTTP is told of an end."""
    if failure is not None:
        return Reply("failed", id_, failure=failure)
    return Reply("completed", id_, value=result or b"")
