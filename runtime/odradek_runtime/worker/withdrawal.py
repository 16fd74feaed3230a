"""The withdrawal of a worker whose disk takes no stores: it leaves the group, so that others take its shards, and stays away.

Stands beside the worker, which it asks to leave. Once the disk takes stores again the process ends, for its supervisor to start it
anew: a worker that came back by itself would be given the same shards at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from odradek_runtime.log.port import LogError
from odradek_runtime.store.store import StoreError
from odradek_runtime.store.store_folder import Stores

logger = logging.getLogger("odradek")

AWAY_S = 15.0
LONGEST_AWAY_S = 120.0
"""Between two looks at the disk, doubling."""


class Withdrawal:
    """`leave` hands the shards over and leaves the group (it blocks); `end` ends the worker, with the reason."""

    def __init__(self, leave: Callable[[], None], end: Callable[[Exception], None]) -> None:
        self.reason = ""
        """Why the worker has left though nobody stopped it; empty while it has not."""
        self._leave = leave
        self._end = end
        self._over = threading.Event()

    def begin(self, error: StoreError, stores: Stores) -> None:
        """Leave, from any thread. Does nothing when it has begun already, or the worker stops."""
        if self.reason or self._over.is_set():
            return
        self.reason = str(error)
        logger.error("this worker gives its shards to others and stays away until its disk takes stores again: %s", error)
        threading.Thread(target=self._stay_away, args=(stores,), name="odradek-withdrawal", daemon=True).start()

    def stop(self) -> None:
        """The worker stops: nothing is looked at any more."""
        self._over.set()

    def _stay_away(self, stores: Stores) -> None:
        self._leave()
        wait_s = AWAY_S
        while not self._over.wait(wait_s):
            wait_s = min(wait_s * 2, LONGEST_AWAY_S)
            try:
                stores.check()
            except StoreError as error:
                self.reason = str(error)
            else:
                self._end(LogError("its disk takes stores again, the worker has to be started anew"))
                return
