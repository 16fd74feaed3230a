"""The table of all kinds: the one place that knows each. Replay, timers, the inspection of commands and the tests look here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from odradek._port import (
    Asked,
    AttachTo,
    AwakeableOf,
    CallOf,
    CancelOf,
    PromiseAwaited,
    PromiseGiven,
    PromisePeeked,
    ResolveOf,
    SendOf,
    Sleep,
    StepBody,
)

from .attach import AttachKind
from .awakeable import AwakeableKind
from .call import CallKind
from .cancel import CancelKind
from .kind import Kind, Recorded
from .promise import PromiseKind
from .resolve import ResolveKind
from .send import SendKind
from .sleep import SleepKind
from .step import StepKind

_PROMISE = PromiseKind()
ASKED: Mapping[type[Asked[Any]], Kind] = {
    StepBody: StepKind(), Sleep: SleepKind(), CallOf: CallKind(), SendOf: SendKind(),
    AwakeableOf: AwakeableKind(), ResolveOf: ResolveKind(), CancelOf: CancelKind(),
    AttachTo: AttachKind(),
    PromiseAwaited: _PROMISE, PromisePeeked: _PROMISE, PromiseGiven: _PROMISE,
}  # fmt: skip
"""By what a handler asks for."""
RECORDED = tuple(Recorded(name) for name in ("get", "set", "clear", "names", "publish", "now"))
"""State, records and the clock: hot, and done where they are asked for (`invocation`); their entries alone are kinds."""
KINDS: Mapping[str, Kind | Recorded] = {**{kind.name: kind for kind in ASKED.values()}, **{kind.name: kind for kind in RECORDED}}
"""By name, as the journal has it."""
