"""The engine's flags: what it is about to do, or has run into. Set by whoever finds out, obeyed at the engine's next turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Flags:
    """`start_over` and `fatal` say why."""

    joined: bool = False
    stopping: bool = False
    start_over: str = ""
    store_lost: bool = False
    """A store has failed: nothing is done or committed until its shards have started over."""
    refused: str = ""
    """Why the log took none of the last epochs, though nothing in them is to blame (a full disk); empty once it has taken one."""
    paused: bool = False
    fatal: str = ""
