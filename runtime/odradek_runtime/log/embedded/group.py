"""Who owns which shard: the consumer group of one app, for several members inside one process.

Cooperative: a member that joins gets the free shards at once and the others when their owners have released them, or
when the deadline has passed and they are taken by force. All changes happen under the catalog's lock, which a commit
holds too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from odradek_runtime.log.port import Event, Gained, Losing, Peer

Post = Callable[[Event], None]


class Seat:
    """A member's place: its shards with their stamps, and those it has been asked to give up."""

    __slots__ = ("leaving", "post", "present", "stamps", "timers", "url")

    def __init__(self, post: Post, url: str | None) -> None:
        self.post = post
        self.url = url
        self.stamps: dict[int, int] = {}
        self.leaving: set[int] = set()
        self.timers: list[threading.Timer] = []
        self.present = True
        """False once the member itself has left: then it never rejoins."""


class Group:
    """The members of one app. `first_stamp`: above every stamp that an earlier process gave out."""

    def __init__(self, shards: int, lock: threading.RLock, first_stamp: int, release_deadline_s: float) -> None:
        self.shards = shards
        self._lock = lock
        self._stamps = count(first_stamp)
        self._deadline_s = release_deadline_s
        self._seats: list[Seat] = []

    def next_stamp(self) -> int:
        """A number that no stamp of this group has had or will have."""
        return next(self._stamps)

    def join(self, seat: Seat) -> None:
        with self._lock:
            if seat.present and seat not in self._seats:
                self._seats.append(seat)
                self._balance()

    def leave(self, seat: Seat) -> None:
        """Its shards go to the others at once."""
        with self._lock:
            seat.present = False
            self._remove(seat)

    def evict(self, seat: Seat) -> None:
        """What an expired session does: the shards move, the member learns of it later and joins anew."""
        with self._lock:
            if seat not in self._seats:
                return
            lost = tuple(sorted(seat.stamps))
            seat.stamps.clear()
            if lost:
                seat.post(Losing(lost, lost=True, release=_once(lambda: self.join(seat))))
            self._remove(seat)
            if not lost:
                self.join(seat)

    def _remove(self, seat: Seat) -> None:
        seat.stamps.clear()
        seat.leaving.clear()
        while seat.timers:
            seat.timers.pop().cancel()
        if seat in self._seats:
            self._seats.remove(seat)
            self._balance()

    def holds(self, seat: Seat, stamps: Mapping[int, int]) -> bool:
        """Whether every one of these stamps is still current (call it under the lock)."""
        return seat in self._seats and all(seat.stamps.get(shard) == stamp for shard, stamp in stamps.items())

    def peers(self) -> list[Peer]:
        with self._lock:
            return [Peer(seat.url, tuple(sorted(seat.stamps))) for seat in self._seats]

    def _balance(self) -> None:
        """Give the free shards out, and ask for those that are with one member too many."""
        owned = {shard for seat in self._seats for shard in seat.stamps}
        free = [shard for shard in range(self.shards) if shard not in owned]
        quotas = self._quotas()
        for seat, quota in quotas:
            room = quota - (len(seat.stamps) - len(seat.leaving))
            given, free = free[: max(room, 0)], free[max(room, 0) :]
            self._give(seat, given)
        for seat, quota in quotas:
            staying = sorted(seat.stamps.keys() - seat.leaving)
            self._ask(seat, staying[quota:])

    def _quotas(self) -> list[tuple[Seat, int]]:
        """Shards for each member; the odd ones go to those who have most, so that little moves."""
        if not self._seats:
            return []
        least, odd = divmod(self.shards, len(self._seats))
        richest = sorted(self._seats, key=lambda seat: len(seat.leaving) - len(seat.stamps))
        return [(seat, least + (place < odd)) for place, seat in enumerate(richest)]

    def _give(self, seat: Seat, shards: Iterable[int]) -> None:
        gained = {shard: next(self._stamps) for shard in shards}
        if gained:
            seat.stamps.update(gained)
            seat.post(Gained(gained))

    def _ask(self, seat: Seat, shards: list[int]) -> None:
        if not shards:
            return
        seat.leaving.update(shards)
        stamps = {shard: seat.stamps[shard] for shard in shards}
        timer = threading.Timer(self._deadline_s, lambda: self._take(seat, stamps))
        timer.daemon = True
        seat.timers.append(timer)

        def release() -> None:
            timer.cancel()
            self._let_go(seat, stamps, lost=False)

        timer.start()
        seat.post(Losing(tuple(shards), lost=False, release=_once(release)))

    def _take(self, seat: Seat, stamps: Mapping[int, int]) -> None:
        """The deadline has passed: the shards move without the member's consent."""
        self._let_go(seat, stamps, lost=True)

    def _let_go(self, seat: Seat, stamps: Mapping[int, int], *, lost: bool) -> None:
        """Free those of these shards that the member still has under these stamps."""
        with self._lock:
            mine = tuple(shard for shard, stamp in stamps.items() if seat.stamps.get(shard) == stamp)
            for shard in mine:
                del seat.stamps[shard]
                seat.leaving.discard(shard)
            if mine and lost:
                seat.post(Losing(mine, lost=True, release=lambda: None))
            if mine:
                self._balance()


def _once(action: Callable[[], None]) -> Callable[[], None]:
    """Calls after the first do nothing."""
    turn = threading.Lock()

    def call() -> None:
        if turn.acquire(blocking=False):
            action()

    return call
