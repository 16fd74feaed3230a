"""Memory, in bytes: what is held for clients of a worker, and no more than the setting says.

Held are bodies as they arrive, requests until they are answered, and answers until their clients have read them. A count of
requests says little: ten thousand may be ten kilobytes or eighty gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odradek_runtime.http.ingress.errors import too_many

if TYPE_CHECKING:
    from types import TracebackType


class Budget:
    """Of all requests of a worker, its peers' included. Used in the loop of the HTTP servers, read anywhere."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.refused = 0

    def check(self, more_bytes: int = 0) -> None:
        """Raises HttpError 429 when there is no room for so many more."""
        if self.held_bytes + more_bytes > self.limit_bytes:
            self.refused += 1
            raise too_many(
                f"requests and answers hold {self.held_bytes} of {self.limit_bytes} bytes at this worker (setting memory_bytes);"
                " nothing was started, the request may be repeated"
            )

    def share(self) -> Share:
        """For one request: what it takes is given back when it is left."""
        return Share(self)


class Share:
    """What one request, or one answer, holds of the budget."""

    __slots__ = ("_budget", "held_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def take(self, more_bytes: int) -> None:
        """Raises HttpError 429 when there is no room for so many more."""
        self._budget.check(more_bytes)
        self.add(more_bytes)

    def add(self, more_bytes: int) -> None:
        """Of what is there already, and cannot be refused."""
        self.held_bytes += more_bytes
        self._budget.held_bytes += more_bytes

    def give_back(self) -> None:
        """All of it; may be called again."""
        self._budget.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def __enter__(self) -> Share:
        """Nothing is taken yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """The request has ended."""
        self.give_back()
