"""Who owns which shard: the group's own answer (`log.peers`), cached for a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from odradek_runtime.log.port import LogError, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("odradek.ingress")


class Owners:
    """The map shard -> private URL of its owner. `look_up` blocks (it asks the coordinator), so a thread calls it."""

    def __init__(
        self,
        look_up: Callable[[], Sequence[Peer]],
        *,
        max_age_s: float = 1.0,
        min_age_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._max_age_s = max_age_s
        self._min_age_s = min_age_s
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="odradek-peers")
        self._map: dict[int, str] = {}
        self._fetched_at = float("-inf")
        self._stale = True
        self._refresh: asyncio.Task[None] | None = None

    async def of(self, shard: int) -> str | None:
        """The owner's private URL, or None when nobody is known to own the shard."""
        age_s = self._clock() - self._fetched_at
        if age_s > self._max_age_s or (self._stale and age_s > self._min_age_s):
            if self._refresh is None:
                self._refresh = asyncio.create_task(self._fetch())
            # Shielded: the look-up is shared, a request that gives up must not take it from the others.
            await asyncio.shield(self._refresh)
        return self._map.get(shard)

    def forget(self) -> None:
        """The map misled somebody: ask again at the next use (at most once per `min_age_s`)."""
        self._stale = True

    def close(self) -> None:
        """Let the look-up thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            peers = await loop.run_in_executor(self._thread, self._look_up)
            self._map = {shard: peer.url for peer in peers if peer.url is not None for shard in peer.shards}
        except LogError as error:
            log.warning("cannot learn who owns which shard, using what was known: %s", error)
        finally:
            self._fetched_at = self._clock()
            self._stale = False
            self._refresh = None
