"""Orders about single invocations: the commands that operators give, or callers, and what they say beside their fields."""

from __future__ import annotations

from .formats import Command, Header

BY = "by"
BECOMES = "becomes"


def order(kind: str, id_: str, by: str, *, ref: int = -1, becomes: str = "") -> Command:
    """What an operator wants done with an invocation. `ref`: from which entry on; `becomes`: the id of what begins in its place."""
    headers = [Header(BY, by.encode()), *([Header(BECOMES, becomes.encode())] if becomes else [])]
    return Command(kind=kind, id=id_, ref=ref, headers=headers)


def asker_of(command: Command) -> str:
    """Who has asked for it, as far as that was said."""
    return _said(command, BY) or "nobody that is known"


def becomes(command: Command) -> str:
    """The id of what is to begin in its place; empty where nothing is."""
    return _said(command, BECOMES)


def _said(command: Command, name: str) -> str:
    return next(((each.value or b"").decode("utf-8", "replace") for each in command.headers if each.name == name), "")
