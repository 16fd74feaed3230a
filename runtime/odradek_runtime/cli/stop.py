"""The request to stop, as a signal's handler may make it: the supervisor and its workers wait for one of these.

A handler runs inside whatever its thread was doing. Were that `threading.Event.wait`, whose lock is taken around each wait,
the handler's `set` would wait for that same lock, in that same thread, for ever. `SimpleQueue.put` is reentrant by contract
(https://docs.python.org/3/library/queue.html#simplequeue-objects).
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class StopRequest:
    """Made once, by a signal's handler or another thread; one thread waits for it.

    Example:
        >>> request = StopRequest()
        >>> request.wait(0.0)
        False
        >>> request.make()
        >>> request.wait(60.0)
        True
    """

    def __init__(self) -> None:
        self.made = False
        self._words: SimpleQueue[None] = SimpleQueue()

    def make(self) -> None:
        """Ask; asking again changes nothing."""
        self.made = True
        self._words.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Until it is made, at most so long. Whether it is."""
        if not self.made:
            with suppress(Empty):
                self._words.get(timeout=timeout_s)
        return self.made
