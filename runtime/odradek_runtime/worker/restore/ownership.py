"""Which shards this worker owns, and their restores; and the requests that wait at them.

A restore blocks, so it runs beside the engine and comes back as a `Restored` event. A shard that moved on meanwhile is closed.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from odradek_runtime.core.records.request import Pending, Question
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import LogError, Trouble
from odradek_runtime.store.store import Store, StoreError

from .progress import Cancelled, Progress
from .takeover import Takeover

logger = logging.getLogger("odradek")

TRIES = 8
"""So often in a row, in some ten seconds, a shard's store may be refused by the disk before the worker gives up."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The shard is restored; `attempt` says by which restore, `rebuilt` that its store could not be used and is a new one."""

    shard: Shard
    attempt: int
    rebuilt: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """An operator wants it: the store of an open shard is to be built anew from the log, as if it could not be used any more.

    `taken` hears which shard that was, None when it is not open.
    """

    number: int
    why: str
    taken: Callable[[Shard | None], None]

    def obey(self, shards: Mapping[int, Shard]) -> None:
        """In the engine's thread, with the shards that are there."""
        shard = shards.get(self.number)
        if shard is not None and shard.phase != "open":
            shard = None
        if shard is not None:
            shard.store_error = StoreError(self.why, "unusable")
        self.taken(shard)


@dataclass(slots=True)
class Owned:
    """One owned shard: its ownership stamp and its restore."""

    stamp: int
    attempt: int
    progress: Progress
    restoring: bool = True
    """A restore runs (or has run and is not accepted yet): the store is its own, and it closes it when the shard has gone."""
    restored: bool = False


class Ownership:
    """The owned shards. `background` runs a blocking function beside the engine; `pause` waits between repeats of a restore.

    `failed` is told what no repetition mends, and each time that the disk has refused a store so often that it may never hold one.
    """

    def __init__(
        self,
        takeover: Takeover,
        post: Callable[[Restored | Trouble], None],
        failed: Callable[[Exception], None],
        background: Callable[[Callable[[], None]], None],
        pause: Callable[[float], None],
        now_ms: Callable[[], float],
    ) -> None:
        self._takeover = takeover
        self._post = post
        self._failed = failed
        self._background = background
        self._pause = pause
        self._now_ms = now_ms
        self._attempts = itertools.count(1)
        self._owned: dict[int, Owned] = {}

    def owns(self, number: int) -> bool:
        return number in self._owned

    @property
    def numbers(self) -> list[int]:
        return sorted(self._owned)

    @property
    def stamps(self) -> dict[int, int]:
        """The ownership stamp of every shard; safe from any thread."""
        return {number: owned.stamp for number, owned in list(self._owned.items())}

    @property
    def restoring(self) -> dict[int, Progress]:
        """The owned shards that cannot be read yet."""
        return {number: owned.progress for number, owned in list(self._owned.items()) if not owned.restored}

    def progress(self, number: int) -> Progress | None:
        """How the restore of an owned shard goes, or went; safe from any thread."""
        owned = self._owned.get(number)
        return owned.progress if owned is not None else None

    def take(self, number: int, stamp: int, store: Store | None = None, unusable: StoreError | None = None) -> None:
        """The shard is ours from now on: restore it."""
        owned = self._owned[number] = Owned(stamp, next(self._attempts), Progress(store=store, unusable=unusable))
        self._background(lambda: self._restore(number, owned))

    def retake(self, shard: Shard) -> None:
        """Start over: the same ownership, the same store unless it is no good any more, everything in memory anew."""
        owned = self._owned.get(shard.number)
        if owned is not None:
            self.take(shard.number, owned.stamp, shard.store, unusable(shard.store_error))

    def accept(self, event: Restored) -> bool:
        """Whether this restore is still wanted; if not, its store is closed."""
        owned = self._owned.get(event.shard.number)
        if owned is None or owned.attempt != event.attempt:
            event.shard.store.close()
            return False
        owned.restoring = False
        return True

    def opened(self, shard: Shard) -> None:
        self._owned[shard.number].restored = True

    def give_up(self, number: int) -> None:
        """The shard moves: flush its store, so that the next restore here is short, and close it."""
        owned = self._owned.pop(number, None)
        if owned is None:
            return
        owned.progress.cancelled = True
        store = owned.progress.store
        if store is not None and not owned.restoring:
            try:
                store.flush()
            except StoreError as error:
                logger.warning("%s", error)
            store.close()

    def _restore(self, number: int, owned: Owned) -> None:
        delay_s = 0.1
        refusals = 0
        progress = owned.progress
        while not progress.cancelled:
            try:
                shard = self._takeover.run(number, owned.stamp, self._now_ms, progress)
            except Cancelled:
                break
            except LogError as error:
                if not error.retriable:
                    self._failed(error)
                    break
                self._not_yet(number, progress, error)
            except StoreError as error:
                self._not_yet(number, progress, error)
                progress.unusable = unusable(error) or progress.unusable  # until it is out of the way
                refusals += error.kind != "in_use"
                if refusals % TRIES == 0 and error.kind != "in_use":
                    self._failed(error)
            except Exception as error:  # noqa: BLE001  (it runs in a thread of its own: the engine must hear of it)
                self._failed(error)
                break
            else:
                if self._owned.get(number) is not owned:
                    break
                self._post(Restored(shard, owned.attempt, progress.set_aside))
                return
            self._pause(delay_s)
            delay_s = min(delay_s * 2, 5.0)
        if progress.store is not None:
            progress.store.close()

    def _not_yet(self, number: int, progress: Progress, error: Exception) -> None:
        """Said once for each reason; a refusal of the brokers is the engine's to say."""
        text = f"shard {number} cannot be restored yet: {error}"
        refusal = error.refusal if isinstance(error, LogError) else None
        if refusal is not None:
            self._post(Trouble(text, refusal=refusal))
        logger.log(logging.DEBUG if refusal is not None or progress.trouble == str(error) else logging.WARNING, "%s", text)
        progress.trouble = str(error)


def unusable(error: StoreError | None) -> StoreError | None:
    """The error, if it says that the store is to be replaced."""
    return error if error is not None and error.kind == "unusable" else None


class Asked:
    """Requests that have not been answered, by shard. They outlive a start-over: each is looked up by its id and asked again."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[Pending, None]] = {}

    def add(self, number: int, question: Question) -> Pending:
        """Remember it until it is answered."""
        waiting = self._waiting.setdefault(number, {})
        pending = Pending(question, lambda answered: waiting.pop(answered, None))
        waiting[pending] = None
        return pending

    def of(self, number: int) -> list[Pending]:
        return list(self._waiting.get(number, ()))

    def all(self) -> list[Pending]:
        return [pending for waiting in self._waiting.values() for pending in waiting]

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())
