"""What the brokers refuse at the moment, as they are set up: said once, kept for the metrics, forgotten when it has gone.

Stands beside the engine: whoever meets a refusal notes it here. Each is tried again after a pause that grows (`Pause`), and a
refusal that has not been met again for a while is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from odradek_runtime.log.port import Refusal

logger = logging.getLogger("odradek")

FIRST_MS = 1_000.0
LONGEST_MS = 30_000.0
FORGOTTEN_MS = 75_000.0
"""More than twice the longest pause: what has not been refused again by then has been mended."""


class Refusals:
    """The refusals of one worker, by resource and operation. Noted from any thread, each assignment by itself."""

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], tuple[float, Refusal]] = {}

    def note(self, refusal: Refusal, steady_ms: float) -> None:
        """It was met: said if it is new."""
        known = self._met.get(refusal[:2])
        self._met[refusal[:2]] = steady_ms, refusal
        if known is None or steady_ms - known[0] > FORGOTTEN_MS:
            logger.error("%s; it is tried again until then, and nothing is lost", refusal.message)

    def mended(self, resource: str) -> None:
        """Nothing is refused there any more."""
        for key in [key for key in self._met if key[0] == resource]:
            del self._met[key]
            logger.warning("Kafka no longer refuses %s on %s", key[1] or "it", resource)

    def current(self, steady_ms: float) -> list[Refusal]:
        """Those that were met lately."""
        return [refusal for met_ms, refusal in list(self._met.values()) if steady_ms - met_ms <= FORGOTTEN_MS]


class Pause:
    """A pause that doubles with each refusal, and begins anew when there has been none for a while."""

    def __init__(self) -> None:
        self.until_ms = 0.0
        self._length_ms = 0.0

    def begin(self, steady_ms: float) -> float:
        """It was refused (again): gives how long to wait, in milliseconds."""
        if steady_ms - self.until_ms > FORGOTTEN_MS:
            self._length_ms = 0.0
        self._length_ms = min(max(self._length_ms * 2, FIRST_MS), LONGEST_MS)
        self.until_ms = steady_ms + self._length_ms
        return self._length_ms

    def lasts(self, steady_ms: float) -> bool:
        """Whether it is not over."""
        return steady_ms < self.until_ms


Note = Callable[[Refusal, float], None]
