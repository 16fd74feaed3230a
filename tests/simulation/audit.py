"""The auditor watches every decision of the log and every effect of a worker, and says at once when an invariant is broken.

It keeps, for each shard, what the committed changelogs amount to: the truth that stores, replies and steps are held against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import INVOCATION, LOCK, POSITIONS, SLOT, STORE_POSITION, TIMER, Positions, Stored
from odradek_runtime.core.records.request import Reply
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Output, Partition, Transaction
from odradek_runtime.log.simulated.auditor import Author, Sent
from odradek_runtime.log.simulated.disk import SimulatedStore

from . import kept
from .model import Wrong
from .program import HELD

if TYPE_CHECKING:
    from .worker import SimWorker


class Audit:
    """What is committed, and the rules that no moment may break."""

    def __init__(self, app: str, note: Callable[[str], None]) -> None:
        self.views: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self.positions: dict[int, Positions] = {}
        self.writers: dict[int, int] = {}
        """The newest ownership stamp that has committed, by shard."""
        self.known: set[str] = set()
        self.ended: set[str] = set()
        self.unfinished: set[str] = set()
        self.held: dict[str, Stored] = {}
        """Unfinished ones of the object whose bad records pause their key, by id: those that are paused, or wait in an inbox."""
        self.steps: set[bytes] = set()
        self._whole: list[tuple[int, str]] = []
        """Those whose journals stay, and that have ended in the commit at hand: (shard, id)."""
        self.commits = 0
        self.app = app
        self._note = note

    # --- the log ---

    def sent(self, member: Author, transaction: Transaction) -> None:
        """A worker has given a commit to its member."""
        touched = set(transaction.stamps) & member.released_shards
        self._rule(not touched, f"{member.name} commits for shards {sorted(touched)}, which it has released")
        named = set(transaction.state) | set(transaction.journal)
        self._rule(named <= set(transaction.stamps), f"{member.name} writes shards {sorted(named)} without their stamps")
        for number in transaction.stamps:
            fence = Partition(f"{self.app}.commands", number)
            self._rule(fence in transaction.offsets, f"{member.name}: shard {number} has no fence")
            journal = transaction.journal.get(number, [])
            self._rule(bool(journal) and journal[-1][0] == keys.POSITIONS, f"{member.name}: shard {number} is not closed")
        self._sizes(member, transaction)

    def _sizes(self, member: Author, transaction: Transaction) -> None:
        """Nothing is sent that its topic does not take: everything is measured when it is made."""
        records = [Output(*output) for output in transaction.outputs]
        for name, changes in (("state", transaction.state), ("journal", transaction.journal)):
            for number, pairs in changes.items():
                headers = transaction.state_headers.get(number) if name == "state" else None
                records += [Output(f"{self.app}.{name}", number, key, value, headers) for key, value in pairs]
        for output in records:
            excess = member.excess(output)
            self._rule(not excess, f"{member.name} sends {output.topic} a record {excess} bytes too large: {output.key!r:.60}")

    def committed(self, transaction: Sent) -> None:
        """The coordinator has decided: these records are true from now on."""
        order = transaction.order
        self.commits += 1
        for number, stamp in order.stamps.items():
            self._rule(
                stamp >= self.writers.get(number, 0),
                f"{transaction.owner} commits shard {number} with stamp {stamp}, a newer owner has committed already",
            )
            self.writers[number] = stamp
            view = self.views[number]
            for key, value in order.state.get(number, ()):
                _apply(view, keys.STATE + key, value)
            for key, value in order.journal.get(number, ()):
                _apply(view, key, value)
                if key[:1] == b"i":
                    self._invocation(number, key[1:].decode(), value)
                elif key[:1] == b"t" and value is not None and TIMER.decode(value).kind == "step":
                    self.steps.add(key)
            for shard, id_ in self._whole:
                flaw = kept.flaw(self.views[shard], id_)
                self._rule(not flaw, flaw)
            self._whole.clear()
            self._moved(number, POSITIONS.decode(view[keys.POSITIONS]), order)

    def _invocation(self, number: int, id_: str, value: bytes | None) -> None:
        self.known.add(id_)
        if value is None:
            self._note(f"    committed: {id_} is gone")
            self.held.pop(id_, None)
            self.ended.add(id_)
            self.unfinished.discard(id_)
            return
        stored = INVOCATION.decode(value)
        self._note(f"    committed: {id_} {stored.target} {stored.key.decode()} {stored.status} {stored.payload!r:.60}")
        self._rule(stored.pause != "divergence", f"{id_} {stored.target} diverged: {stored.reason}")
        held = stored.target.startswith(f"{HELD}/") and stored.status in ("paused", "inboxed")
        may_pause = (held and stored.pause == "bad_input") or (not held and stored.pause == "operator")
        self._rule(stored.status != "paused" or may_pause, f"{id_} {stored.target} is paused: {stored.reason}")
        self.held.pop(id_, None)
        if held:
            self.held[id_] = stored
        if stored.status in ("completed", "failed"):
            self._ends_kept(number, stored)
            self.ended.add(id_)
            self.unfinished.discard(id_)
        else:
            self._rule(id_ not in self.ended, f"{id_} {stored.target} has ended and is {stored.status} again")
            self.unfinished.add(id_)

    def _ends_kept(self, number: int, stored: Stored) -> None:
        if stored.target in kept.TARGETS and stored.id not in self.ended:
            self._whole.append((number, stored.id))

    def _moved(self, number: int, now: Positions, order: Transaction) -> None:
        before = self.positions.get(number)
        self.positions[number] = now
        places = {Partition(p.topic, p.partition): p.offset for p in now.inputs}
        ids = {p.topic: p.topic_id for p in now.inputs}
        resets = {Partition(p.topic, p.partition): p.reset for p in now.inputs}
        for partition, offset in order.offsets.items():
            mine = places.get(partition, offset)
            self._rule(mine == offset, f"{partition}: the group has {offset}, our own record says {mine}")
        if before is None:
            return
        newer = (before.incarnation, before.epoch) < (now.incarnation, now.epoch)
        self._rule(newer, f"shard {number}: epoch {now.incarnation}.{now.epoch} after {before.incarnation}.{before.epoch}")
        self._rule(before.sequence <= now.sequence, f"shard {number}: the journal's sequence went back")
        for place in before.inputs:
            where = Partition(place.topic, place.partition)
            anew = place.topic_id != ids.get(place.topic) or place.reset != resets.get(where)
            back = f"{where} went back from {place.offset} to {places.get(where)}"
            self._rule(anew or places.get(where, -1) >= place.offset, back)

    # --- a worker ---

    def restored(self, worker: SimWorker, shard: Shard) -> None:
        """A restore is done: what it gives must be what is committed."""
        if not worker.alive or worker.member.stamps.get(shard.number) != shard.stamp or not worker.owner_of(shard.number):
            return
        store = shard.store
        assert isinstance(store, SimulatedStore)
        found = {key: value for key, value in store.content().items() if key != keys.STORE_POSITION}
        for key, value in shard.changes.items():
            _apply(found, key, value)
        self.same(f"{worker.name} restored shard {shard.number}", shard.number, found)

    def same(self, what: str, number: int, found: dict[bytes, bytes]) -> None:
        """A shard's content is exactly what is committed."""
        view = self.views[number]
        wrong = sorted(key for key in found.keys() | view.keys() if found.get(key) != view.get(key))
        told = [f"{key!r}: {found.get(key)!r} instead of {view.get(key)!r}" for key in wrong[:5]]
        self._rule(not wrong, f"{what}: {len(wrong)} keys differ from what is committed: {'; '.join(told)}")

    def stored(self, worker: SimWorker, shard: Shard) -> None:
        """Nothing is under way: the live store comes to hold what is committed, and its position is not ahead of the log."""
        shard.write_back()
        store = shard.store
        assert isinstance(store, SimulatedStore)
        found = store.content()
        at = STORE_POSITION.decode(found.pop(keys.STORE_POSITION))
        for name, offset in (("journal", at.journal_offset), ("state", at.state_offset)):
            end = worker.world.brokers.partition(Partition(f"{self.app}.{name}", shard.number)).end
            self._rule(offset <= end, f"{worker.name}: the store of shard {shard.number} is ahead of {name}: {offset} > {end}")
        self.same(f"{worker.name}, the store of shard {shard.number}", shard.number, found)

    def reads(self, worker: SimWorker, positions: Mapping[Partition, int]) -> None:
        """Where a shard reads from is committed before it reads, so that the next owner does not begin elsewhere."""
        known = {Partition(place.topic, place.partition) for found in self.positions.values() for place in found.inputs}
        self._rule(positions.keys() <= known, f"{worker.name} reads {sorted(positions.keys() - known)}: no position is committed")

    def step_started(self, run: StepRun) -> None:
        """A step starts only after its start is committed."""
        self._rule(keys.timer(0, run.id, run.ref) in self.steps, f"step {run.key} starts before that is committed")

    def replied(self, reply: Reply) -> None:
        """A reply leaves only after its cause is committed."""
        id_ = reply.invocation_id
        if reply.status in ("completed", "failed"):
            self._rule(id_ in self.ended, f"{id_} is said to be {reply.status} before that is committed")
        elif reply.status in ("accepted", "previously_accepted", "running"):
            self._rule(id_ in self.known, f"{id_} is said to be {reply.status} before that is committed")

    def accepted(self, id_: str) -> None:
        """Whoever waits is told that an invocation exists only after it is committed."""
        self._rule(id_ in self.known, f"{id_} is said to exist before that is committed")

    def under_way(self) -> bool:
        """Whether anything has yet to end: what is paused, and what waits behind it, has not."""
        paused = {stored.key for stored in self.held.values() if stored.status == "paused"}
        return any(id_ not in self.held or self.held[id_].key not in paused for id_ in self.unfinished)

    def paused(self) -> dict[str, list[str]]:
        """By key that is paused, the tasks there: the one that is paused ("raw" if it is none), and those that wait behind it."""
        found: dict[str, list[str]] = {}
        for view in self.views.values():
            for lock_key in [key for key in view if key.startswith(f"l{HELD}/".encode())]:
                lock = LOCK.decode(view[lock_key])
                slots = [keys.slot(lock_key, number) for number in range(lock.head, lock.tail)]
                ids = [lock.holder, *(SLOT.decode(view[slot]).id for slot in slots)]
                stored = [INVOCATION.decode(view[keys.invocation(id_)]) for id_ in ids]
                found[lock_key.decode().split("/")[1]] = [_task(each) for each in stored]
        return found

    def leftovers(self) -> list[str]:
        """What a world without unfinished work must not hold any more."""
        found: list[str] = []
        for number, view in self.views.items():
            for key, value in view.items():
                if f"{HELD}/".encode() in key or any(id_.encode() in key for id_ in self.held):
                    continue
                if key[:1] == b"j" and kept.is_kept(view, key):
                    continue
                if key[:1] in b"jlqazoy" or (key[:1] == b"t" and TIMER.decode(value).kind != "purge"):
                    found.append(f"shard {number}: {key!r}")
        return found

    def timers_to_fire(self) -> bool:
        """Whether what has ended has left a timer behind that was yet to come: due, it must go."""
        timers = (key for view in self.views.values() for key, value in view.items() if _lapses(key, value))
        return any(keys.split_timer(key)[1] not in self.held for key in timers)

    def tell_unfinished(self) -> list[str]:
        """What has not ended, and what is known of it."""
        told: list[str] = []
        for view in self.views.values():
            for id_ in sorted(self.unfinished):
                value = view.get(keys.invocation(id_))
                if value is not None:
                    stored = INVOCATION.decode(value)
                    told.append(f"{id_} {stored.target} {stored.status} {stored.attempts} {stored.reason} {stored.payload!r}")
        return told

    def _rule(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Wrong(otherwise)


def _lapses(key: bytes, value: bytes) -> bool:
    """It may outlive its invocation, if that was not in memory to say when it is due: a later attempt, or an end to them all."""
    return key[:1] == b"t" and keys.split_timer(key)[0] > 0 and TIMER.decode(value).kind in ("step", "retry", "timeout")


def _task(stored: Stored) -> str:
    payload = stored.payload or b""
    return str(msgspec.json.decode(payload)["id"]) if payload.endswith(b"}") else "raw"


def _apply(view: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        view.pop(key, None)
    else:
        view[key] = value
