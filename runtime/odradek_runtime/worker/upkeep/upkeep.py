"""Upkeep: what operators ask for a shard that is here: that its store be verified, or built anew from the log.

Stands between the admin API and the engine. Verifications run one at a time in a thread of their own; what changes the shard goes
to the engine through its queue, as everything does. A job ends with the shard's leaving: its next owner knows nothing of it.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from odradek_runtime.log.port import Log, LogError
from odradek_runtime.store.store import StoreError
from odradek_runtime.store.store_folder import Stores
from odradek_runtime.worker.restore.ownership import Discard, Ownership
from odradek_runtime.worker.restore.progress import Cancelled, Progress
from odradek_runtime.worker.restore.takeover import Takeover

from .jobs import Findings, Job, Kind, Stage
from .roll import Roll
from .verification import Paced, Verification

if TYPE_CHECKING:
    from odradek_runtime.core.shard import Shard
    from odradek_runtime.worker.engine.engine import Engine

logger = logging.getLogger("odradek")

KEPT = 256
"""So many jobs that are over can be asked for."""
LOOK_S = 0.05
ASKED: dict[Kind, str] = {
    "verify": "shard %d: %s wants its store verified (%s)",
    "rebuild": "shard %d: %s wants its store rebuilt (%s)",
}
NAMED = 5
"""So many differences stand in the log."""


class NotHere(Exception):
    """The shard is another worker's, or on its way."""


class UpkeepRefused(Exception):
    """It cannot be done now; the message says why."""


class Upkeep:
    """The jobs of one worker. `post` gives the engine an event; every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        ownership: Ownership,
        stores: Stores,
        log: Log,
        takeover: Takeover,
        post: Callable[[Discard], None],
        stopping: threading.Event,
        roll: Roll,
    ) -> None:
        self.roll = roll
        self._engine = engine
        self._ownership = ownership
        self._stores = stores
        self._log = log
        self._takeover = takeover
        self._post = post
        self._stopping = stopping
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._to_verify: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def verify(self, number: int, asked_by: str) -> Job:
        """Verify it as soon as the others before it are done. One that is asked for already is the same. Raises NotHere."""
        with self._lock:
            if (known := self._under_way("verify", number)) is not None:
                return known
            job = self._take("verify", number, asked_by)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="odradek-upkeep", daemon=True)
                self._thread.start()
        self._to_verify.put(job)
        return job

    def rebuild(self, number: int, asked_by: str) -> Job:
        """Drop its store and restore it from the log. Raises NotHere, UpkeepRefused."""
        with self._lock:
            if (known := self._under_way("rebuild", number)) is not None:
                return known
            if self._ownership.owns(number) and self._shard(number) is None:
                raise UpkeepRefused(f"shard {number} is being restored already: wait until it is open")
            try:
                self._stores.check_room(number, 1)  # the store that it has is kept beside the new one
            except StoreError as error:
                raise UpkeepRefused(str(error)) from error
            job = self._take("rebuild", number, asked_by)
        threading.Thread(target=self._rebuild, args=(job,), name="odradek-rebuild", daemon=True).start()
        return job

    def find(self, id_: str) -> Job | None:
        """A job, while it is remembered."""
        return self._jobs.get(id_)

    def join(self) -> None:
        """The worker stops: so does what is under way."""
        self._to_verify.put(None)
        if self._thread is not None:
            self._thread.join(10.0)

    def _take(self, kind: Kind, number: int, asked_by: str) -> Job:
        if not self._ownership.owns(number):
            raise NotHere
        job = Job(f"{kind}-{number}-{secrets.token_hex(6)}", kind, number, asked_by)
        for id_ in [id_ for id_, each in self._jobs.items() if each.over][:-KEPT]:
            del self._jobs[id_]
        self._jobs[job.id] = job
        logger.info(ASKED[kind], number, asked_by, job.id)
        return job

    def _under_way(self, kind: Kind, number: int) -> Job | None:
        found = [each for each in self._jobs.values() if (each.kind, each.shard) == (kind, number) and not each.over]
        return found[0] if found else None

    def _shard(self, number: int) -> Shard | None:
        """The shard, if it is open."""
        shard = self._engine.machine.shards.get(number)
        return shard if shard is not None and shard.phase == "open" else None

    def _owned_since(self, stamp: int | None, number: int) -> bool:
        return stamp is not None and self._ownership.stamps.get(number) == stamp

    # --- verifications, in a thread of their own ---

    def _run(self) -> None:
        while (job := self._to_verify.get()) is not None and not self._stopping.is_set():
            try:
                job.findings = self._verified(job)
            except Cancelled:
                what = "the worker has stopped" if self._stopping.is_set() else "the shard has moved to another worker"
                self._fail(job, f"{what} meanwhile: verify it again")
            except StoreError as error:
                way_out = f": odradek rebuild --shard {job.shard} builds it anew" if error.kind == "unusable" else ""
                self._fail(job, f"{error}{way_out}")
            except LogError as error:
                self._fail(job, str(error))
            except Exception:  # whoever waits for it must hear of it
                logger.exception("a verification has failed")
                self._fail(job, "a defect of odradek: the worker's log has it")
            else:
                _tell(job, job.findings)
                job.status = "ended"

    def _verified(self, job: Job) -> Findings:
        number, machine = job.shard, self._engine.machine
        shard = self._shard(number)
        if not self._ownership.owns(number):
            raise Cancelled
        if shard is None:
            raise StoreError(f"shard {number} is being restored: verify it when it is open", "in_use")
        pace = Paced(lambda: self._seen(job, pace, shard.stamp), self._stopping)
        bench = self._stores.bench(number)
        try:
            verification = Verification(machine.app.name, machine.n, number, self._log, self._takeover, pace)
            return verification.run(shard.store, bench, lambda stage: _enter(job, stage))
        finally:
            bench.clear()

    def _seen(self, job: Job, pace: Paced, stamp: int) -> bool:
        job.done_records, job.total_records = pace.done_records, pace.total_records
        return self._owned_since(stamp, job.shard)

    # --- rebuilding ---

    def _rebuild(self, job: Job) -> None:
        """Tell the engine, and look on until the shard is open again."""
        number = job.shard
        stamp, before = self._ownership.stamps.get(number), self._ownership.progress(number)
        taken: queue.SimpleQueue[Shard | None] = queue.SimpleQueue()
        self._post(Discard(number, f"its store is dropped, as {job.asked_by} has asked ({job.id})", taken.put))
        dropped: Shard | None = None
        while not self._stopping.wait(LOOK_S):
            if not self._owned_since(stamp, number):
                self._fail(job, "the shard has moved to another worker meanwhile: look whether it is still wanted there")
                return
            if dropped is None and not taken.empty():
                dropped = taken.get()
                if dropped is None:
                    self._fail(job, f"shard {number} was being restored already: wait until it is open")
                    return
            if dropped is not None and self._restored_after(job, dropped, before):
                logger.info("shard %d: rebuilt from the log (%s)", number, job.id)
                job.status = "ended"
                return
        self._fail(job, "the worker has stopped meanwhile: the shard is rebuilt where it is taken over")

    def _restored_after(self, job: Job, dropped: Shard, before: Progress | None) -> bool:
        progress = self._ownership.progress(job.shard)
        if progress is not None and progress is not before:
            job.status = "restoring"
            job.done_records, job.total_records, job.reason = progress.done_records, progress.total_records, progress.trouble
        shard = self._shard(job.shard)
        if shard is None or shard is dropped:
            return False
        job.reason = ""
        return True

    def _fail(self, job: Job, reason: str) -> None:
        logger.warning("shard %d: %s has come to nothing: %s", job.shard, job.id, reason)
        job.reason = reason
        job.status = "failed"


def _enter(job: Job, stage: Stage) -> None:
    job.status = stage


def _tell(job: Job, found: Findings) -> None:
    where = f"{found.keys:,} keys at journal {found.journal_offset}, state {found.state_offset}, in {found.seconds:.1f} s"
    if not found.differences:
        logger.info("shard %d: its store is what the log says: %s (%s)", job.shard, where, job.id)
        return
    first = "; ".join(f"{each.kind} {each.key}" for each in found.shown[:NAMED])
    logger.error(
        "shard %d: its store is not what the log says: %d of %s differ (%s); the first: %s",
        job.shard, found.differences, where, job.id, first,
    )  # fmt: skip
