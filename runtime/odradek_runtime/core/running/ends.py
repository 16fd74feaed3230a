"""Which other errors of a handler are its end, as a TerminalError is: no retry mends what they tell."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator
from typing import cast

from odradek import TerminalError
from odradek_runtime.core.records.journal import CANCELLATION, Journal

from .outcome import Outcome, Raised


def as_an_end(come_to: Outcome) -> Outcome:
    """A TimeoutError of asyncio's that escapes is the end, 504; so is a group of terminal errors, with the first's code."""
    if not isinstance(come_to, Raised) or isinstance(come_to.error, TerminalError):
        return come_to
    error = come_to.error
    try:
        if isinstance(error, TimeoutError) and _is_asyncios(error):
            made = TerminalError(f"timed out: {error}" if str(error) else "timed out", code=504)
            made.__cause__ = error
            return Raised(made)
        leaves = list(_leaves(error))
        terminal = [leaf for leaf in leaves if isinstance(leaf, TerminalError)]
        if len(terminal) < len(leaves):
            return come_to
        made = TerminalError("; ".join(map(str, terminal)), code=terminal[0].code, metadata=terminal[0].metadata)
        made.__cause__ = error
        return Raised(made)
    finally:
        del error  # it keeps this frame


def lets_through(journal: Journal, error: object) -> bool:
    """Whether this is its cancellation, and the handler has made nothing else of it: an end as a terminal failure is."""
    return isinstance(error, CancelledError) and CANCELLATION in journal.completed


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(each)
    else:
        yield error


def _is_asyncios(error: BaseException) -> bool:
    """Raised by `asyncio.timeout`, `wait_for` and the like: their time is the journal's."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return step is not None and str(step.tb_frame.f_globals.get("__name__", "")).startswith("asyncio.")
