"""What a turn of a coroutine has come to: the runner says it, and `advance` carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Waits:
    """For what nothing has come back for yet: a future, or whatever else the handler has awaited."""

    future: Any


@dataclass(slots=True)
class Returned:
    """With this value."""

    value: Any


@dataclass(slots=True)
class Raised:
    """This error."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Refused:
    """It waits for what does not outlive a crash, or goes on though it was told so: `live.refused` says what."""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """What it wrote could not be written for now, whatever it has made of the error: `live.unwritten` says why."""

    error: Exception


Outcome = Waits | Returned | Raised | Refused | Unwritten


class BareYield:
    """What `await asyncio.sleep(0)` yields: nothing to wait for."""


BARE_YIELD = BareYield()
