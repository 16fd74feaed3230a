"""Judgement: whether a world has come to its end, and whether what has come of it is what its model says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from odradek_runtime.core.records import keys
from odradek_runtime.log.port import Partition

from .faults import SKEW_MS, START_MS
from .model import Outcome, Wrong, compare, expect, letter
from .program import HELD

if TYPE_CHECKING:
    from odradek_runtime.log.simulated.brokers import Brokers

    from .deployment import Deployment
    from .world import World


def settled(world: World, deployment: Deployment) -> bool:
    """Whether this app has nothing left to do."""
    group = deployment.group
    if group.pending:
        return False
    workers = [worker for worker in world.workers if worker.deployment is deployment]
    owned = {(worker.member.name, number) for worker in workers for number in worker.machine.shards}
    return owned == {(owner.name, number) for number, owner in group.owners.items()} and not lag(deployment)


def positions(deployment: Deployment) -> dict[Partition, int]:
    """Up to where the app has read, as far as that is committed."""
    places = [place for found in deployment.audit.positions.values() for place in found.inputs]
    ids = {info.name: info.id for name in deployment.inputs if (info := deployment.brokers.topic(name)) is not None}
    return {Partition(p.topic, p.partition): p.offset for p in places if p.topic_id in ("", ids.get(p.topic))}


def lag(deployment: Deployment) -> dict[str, int]:
    """How much an app has not read yet, by partition where there is anything."""
    done = positions(deployment)
    found: dict[str, int] = {}
    for name in deployment.inputs:
        info = deployment.brokers.topic(name)
        for number in range(info.partitions if info is not None else 0):
            where = Partition(name, number)
            log = deployment.brokers.partition(where)
            if log.read(done.get(where, 0), log.end, 1):
                found[f"{name}[{number}]"] = log.end - done.get(where, 0)
    return found


def judge(world: World) -> None:
    """Raises Wrong for what must not be."""
    for deployment in world.deployments:
        _left_behind(world, deployment)
        _positions(deployment)
        for number in range(deployment.shards):
            deployment.audit.same(f"the changelogs of shard {number}", number, _changelog(world, deployment, number))
    outcome = _outcome(world)
    began = {record["token"].split(":")[0] for _, record, _ in outcome.records}
    entries = [entry for entry in world.entered if entry.task["id"] in began or entry.task["id"] not in world.doubtful]
    again = [*world.replays.delivered(), *world.resets.delivered()]
    compare(expect(replace(world.program, entries=[*entries, *again])), outcome)


def _left_behind(world: World, deployment: Deployment) -> None:
    left = deployment.audit.leftovers()
    if left:
        raise Wrong(f"nothing is under way, and yet there is: {left}")
    for worker in (worker for worker in world.workers if worker.deployment is deployment):
        limits = worker.machine.limits
        if limits.backlog or any(limits.full(target) for target in worker.machine.handlers):
            raise Wrong(f"{worker.name}: places under a concurrency limit are taken for ever")
        for shard in worker.machine.shards.values():
            deployment.audit.stored(worker, shard)
            locks = [base for base in shard.locks.held if not base.startswith(f"s{HELD}/".encode())]
            kept = [what for what in (worker.machine.living.of(shard.number), shard.running, locks, shard.waiters) if what]
            if kept:
                raise Wrong(f"{worker.name} shard {shard.number} still keeps {kept}")


def _positions(deployment: Deployment) -> None:
    mirror = deployment.group.committed
    for positions in deployment.audit.positions.values():
        for place in positions.inputs:
            told = mirror.get(Partition(place.topic, place.partition))
            if told != place.offset:
                raise Wrong(f"{place.topic}[{place.partition}]: our own position is {place.offset}, the group's {told}")


def _changelog(world: World, deployment: Deployment, number: int) -> dict[bytes, bytes]:
    """Without what strangers have written there."""
    found: dict[bytes, bytes] = {}
    for name, first in (("journal", b""), ("state", keys.STATE)):
        log = deployment.brokers.partition(Partition(f"{deployment.name}.{name}", number))
        for message in log.read(0, log.end, log.end):
            if (log.where, message.at) in world.strange:
                continue
            key, value = first + (message.key() or b""), message.value()
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
    return found


def _outcome(world: World) -> Outcome:
    logs: dict[tuple[str, str], list[str]] = {}
    marks: dict[tuple[str, str], Counter[str]] = {}
    views = [view for deployment in world.deployments for view in deployment.audit.views.values()]
    for key, value in (pair for view in views for pair in view.items() if pair[0][:1] == keys.STATE):
        object_, name, state = key[1:].decode().split("/")
        found = msgspec.json.decode(value)
        if state == "log":
            logs[object_, name] = found
        elif state == "marks":
            marks[object_, name] = Counter(found)
    records: list[tuple[tuple[str, str], dict[str, Any], float]] = []
    for message in _all(world.brokers, "out"):
        place = (message.key() or b"").decode().split("@")
        at_ms = message.timestamp()[1] - START_MS
        records.append(((place[1], place[0]), msgspec.json.decode(message.value() or b""), at_ms))
    letters: Counter[str] = Counter()
    for topic in (*(f"{deployment.name}.dead-letters" for deployment in world.deployments), "letters"):
        for message in _all(world.brokers, topic):
            told = {name: (value or b"").decode() for name, value in message.headers() or ()}
            if "odradek-topic" not in told:
                raise Wrong(f"a dead letter that came from no record: {told}")
            where = told["odradek-topic"], int(told["odradek-partition"]), int(told["odradek-offset"])
            name = world.letters_of.get(where, f"{where} {told['odradek-error']}")
            letters[letter(told.get("odradek-replay", ""), name)] += 1
    replies = {client.entry.task["id"]: client.answer for client in world.clients}
    replies = {task: reply for task, reply in replies.items() if reply != 409 or task not in world.controls.renewed}
    return Outcome(logs, marks, records, letters, 2 * SKEW_MS + 100.0 + world.clocks.set_ms, replies, world.main.audit.paused())


def _all(brokers: Brokers, topic: str) -> list[Any]:
    info = brokers.topic(topic)
    logs = [brokers.partition(Partition(topic, n)) for n in range(info.partitions if info is not None else 0)]
    return [message for each in logs for message in each.read(0, each.end, each.end)]
