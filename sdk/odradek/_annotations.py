"""Type hints of a function, resolved when the names they use are defined.

At decoration first; when a name is missing there (a class further down the module), at first use. Classes local to a
function are found through the namespace of the code that applied the decorator.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PACKAGE = __name__.partition(".")[0]


class Annotations:
    """The hints of one function; `what` names it in messages."""

    __slots__ = ("_fn", "_namespace", "_what")

    def __init__(self, fn: Callable[..., Any], what: str) -> None:
        self._fn = fn
        self._what = what
        self._namespace: Mapping[str, Any] | None = None

    def try_now(self, resolve: Callable[[], object]) -> None:
        """Call `resolve`; if a name is not defined yet, keep the caller's local names for the next time."""
        try:
            self._get()
        except NameError:
            self._namespace = _local_names()
        try:
            resolve()
        except UndefinedError:
            pass  # resolved again at start, or at first use

    def resolve(self) -> dict[str, Any]:
        """Give the hints, "return" among them. Raises TypeError when a name is not defined."""
        try:
            return self._get()
        except NameError as error:
            raise UndefinedError(
                f"{self._what}: the type hint {error.name!r} is not defined; import it (not under TYPE_CHECKING): it "
                "chooses how values are decoded"
            ) from error

    def _get(self) -> dict[str, Any]:
        return get_type_hints(self._fn, localns=dict(self._namespace) if self._namespace else None, include_extras=True)


class UndefinedError(TypeError):
    """A hint's name is not defined, so far."""


def _local_names() -> Mapping[str, Any] | None:
    """Give the local names of the function outside this package that is running, None at module level."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  (the only way to names of an enclosing function)
    while frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE and frame.f_back is not None:
        frame = frame.f_back
    return None if frame.f_locals is frame.f_globals else dict(frame.f_locals)
