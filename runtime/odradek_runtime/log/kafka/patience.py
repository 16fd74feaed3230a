"""Waiting for calls of librdkafka that may outlast their own timeout, or never return (librdkafka #5456, #5511).

`send_offsets_to_transaction` stands for as long as a group's dead coordinator is away, whatever timeout it was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

GRACE_S = 2.0
"""How far a call may outlast its own timeout before it is given up."""


def within(timeout_s: float, call: Callable[[], object]) -> None:
    """Run it in a thread of its own and wait; what it raises is raised here.

    Raises:
        TimeoutError: it has not returned. Its thread goes on, and what it holds must not be used any more.
    """
    returned: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  (raised by whoever waits)
            returned.set_exception(error)
        else:
            returned.set_result(None)

    threading.Thread(target=run, name="odradek-call", daemon=True).start()
    returned.result(timeout_s)
