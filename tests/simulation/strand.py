"""A strand: a blocking function on a stack of its own, a greenlet, which moves only while the scheduler lets it.

Stands where a worker has a thread that restores. Wherever it would block, the world goes on first.
"""

from __future__ import annotations

from collections.abc import Callable

from greenlet import getcurrent, greenlet

from odradek_runtime.log.simulated.scheduler import Scheduler


class Killed(BaseException):
    """Ends a strand whose process has died. Not an Exception, so that nothing catches it."""


class Strand:
    """One of them (`log.simulated.scheduler.Strand`)."""

    def __init__(self, scheduler: Scheduler, name: str, work: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self.name = name
        self.dead = False
        self.ended = False
        self._scheduler = scheduler
        self._work = work
        self._failed = failed
        self._fiber = greenlet(self._run)
        scheduler.later(scheduler.delay_ms(2.0), f"{name} begins", self._start)

    def give_way(self, delay_ms: float, what: str) -> None:
        """Called in the strand: let the world go on for so long."""
        self._scheduler.later(delay_ms, f"{self.name} goes on: {what}", self._resume)
        world = self._fiber.parent
        assert world is not None, "a strand was entered from somewhere"
        world.switch()
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """Its process has died: it does nothing more."""
        self.dead = True
        if self._fiber and self._scheduler.strand is not self:
            self._switch()

    def _start(self) -> None:
        if not self.dead:
            self._switch()

    def _resume(self) -> None:
        if not self.ended:
            self._switch()

    def _switch(self) -> None:
        """Run it until it gives way or ends."""
        before, self._scheduler.strand = self._scheduler.strand, self
        self._fiber.parent = getcurrent()
        self._fiber.switch()
        self._scheduler.strand = before

    def _run(self) -> None:
        try:
            self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  (it is the world's to judge)
            self._failed(error)
        finally:
            self.ended = True
