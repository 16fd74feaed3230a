"""What the engine does when the brokers refuse an epoch as they are set up: no record is to blame, it is all tried again.

A topic that handlers write to is shut for a while: the epoch runs again without its records, whose invocations wait for the topic
alone. For anything else (the app's own topics, its group, its transactional ids) the engine stands still: a pause that grows with
each refusal, in which nothing is begun and nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odradek_runtime.core.topics.refusals import Pause
from odradek_runtime.core.topics.unavailable import Unavailable
from odradek_runtime.log.port import LogError, Refusal

if TYPE_CHECKING:
    from odradek_runtime.core.machine import Machine


class Standstill:
    """The pause of one engine. Used in the engine's thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pause = Pause()

    @property
    def lasts(self) -> bool:
        return self._pause.lasts(self._machine.steady_ms)

    def refused(self, refusal: Refusal) -> None:
        """An epoch was refused."""
        machine = self._machine
        targets, steady_ms = machine.targets, machine.steady_ms
        known = targets.writes_to(refusal.resource)
        again = not known or targets.unavailable.shut_now(refusal.resource)  # it was written to all the same
        if known:
            targets.refused(refusal, steady_ms)
        else:
            targets.unavailable.refusals.note(refusal, steady_ms)
        if again:
            self._pause.begin(steady_ms)
        targets.renew_letters(machine.n)

    def met(self, error: Unavailable | LogError) -> None:
        """Something that must be written cannot be, and nobody is there to take it back: it is run again from the log."""
        if isinstance(error, Unavailable):
            self._machine.targets.unavailable.refusals.note(error.refusal, self._machine.steady_ms)
        self._pause.begin(self._machine.steady_ms)
