"""Topics that cannot be written to for now, though no record is to blame: each is looked at again after a pause that grows.

Stands before every record that is published: what a handler does meanwhile is taken back, and its invocation waits for the topic,
alone. An epoch that was refused for such a topic is thus refused once, and the next one goes without those records.
"""

from __future__ import annotations

from odradek_runtime.log.port import Refusal

from .refusals import Pause, Refusals


class Unavailable(LookupError):
    """A topic cannot be written to now. The attempt that meets it is repeated after `again_ms`, and does not count."""

    def __init__(self, refusal: Refusal, again_ms: float) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.again_ms = again_ms


class AbsentTopic(Unavailable):
    """It is not there."""


class Unavailables:
    """The topics that cannot be written to. A topic is tried again when its pause is over."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self.waiting: dict[str, int] = {}
        """Invocations that wait for one of them, and their shards: bounded, the inputs pause when they are many (invariant 7)."""
        self._pauses: dict[str, Pause] = {}
        self._errors: dict[str, Unavailable] = {}

    def check(self, topic: str, steady_ms: float) -> None:
        """Raises Unavailable while the topic's pause lasts."""
        error = self._errors.get(topic)
        if error is not None and self._pauses[topic].lasts(steady_ms):
            raise error

    def shut(self, refusal: Refusal, steady_ms: float, *, absent: bool = False) -> Unavailable:
        """The topic `refusal.resource` cannot be written to: gives the error to raise until it is looked at again."""
        self.refusals.note(refusal, steady_ms)
        pause_ms = self._pauses.setdefault(refusal.resource, Pause()).begin(steady_ms)
        error = (AbsentTopic if absent else Unavailable)(refusal, pause_ms)
        self._errors[refusal.resource] = error
        return error

    def shut_now(self, topic: str) -> bool:
        """Whether it could not be written to when it was looked at last."""
        return topic in self._errors

    def open(self, topic: str) -> None:
        """It was looked at, and nothing was amiss. Its pause goes on from there if it is refused again soon."""
        if self._errors.pop(topic, None) is not None:
            self.refusals.mended(topic)

    def ended(self, id_: str) -> None:
        """The invocation tries again, or has ended."""
        self.waiting.pop(id_, None)

    def drop(self, number: int) -> None:
        """The shard goes: what waits there is no longer this worker's."""
        self.waiting = {id_: shard for id_, shard in self.waiting.items() if shard != number}
