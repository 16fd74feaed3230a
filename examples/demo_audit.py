"""The demo's auditor: reads what the app left in the log, and compares it with the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from examples.demo_data import Aircraft, Truth
from odradek_runtime.log.port import Log, Message, Partition

APP = "flights"
DEAD_LETTERS = f"{APP}.dead-letters"


@dataclass
class Found:
    """What is in the log."""

    aircraft: dict[str, Aircraft] = field(default_factory=dict[str, Aircraft])
    outputs: Counter[str] = field(default_factory=Counter[str])
    tickets: dict[str, str] = field(default_factory=dict[str, str])
    dead_letters: int = 0


def read(log: Log) -> Found:
    """Scan the committed records. `<app>.state` is a changelog: the last value of a key is the one that counts."""
    found = Found()
    for message in records(log, "arrivals"):
        arrival = json.loads(message.value() or b"null")
        found.outputs[arrival["flight"]] += 1
        if arrival["ticket"] is not None:
            found.tickets[arrival["flight"]] = arrival["ticket"]
    found.dead_letters = sum(1 for _ in records(log, DEAD_LETTERS))
    for message in records(log, f"{APP}.state"):
        _, tail, name = (message.key() or b"").decode().split("/")
        setattr(found.aircraft.setdefault(tail, Aircraft()), name, json.loads(message.value() or b"0"))
    return found


def records(log: Log, topic: str) -> Iterator[Message]:
    """All committed records of a topic."""
    info = log.topic(topic)
    for number in range(info.partitions if info else 0):
        partition = Partition(topic, number)
        for batch in log.scan(partition, *log.offsets(partition)):
            yield from batch


def differences(truth: Truth, found: Found) -> list[str]:
    """Each way in which the log is not what the file says; empty = equal."""
    said: list[str] = []
    lost, extra = truth.outputs - found.outputs, found.outputs - truth.outputs
    if lost:
        said.append(f"{lost.total():,} outputs are missing, e.g. {next(iter(lost))}")
    if extra:
        said.append(f"{extra.total():,} outputs are there twice or for no flight, e.g. {next(iter(extra))}")
    wrong = {tail for tail in truth.aircraft.keys() | found.aircraft.keys() if truth.aircraft.get(tail) != found.aircraft.get(tail)}
    if wrong:
        tail = min(wrong)
        file, state = truth.aircraft.get(tail), found.aircraft.get(tail)
        said.append(f"{len(wrong):,} aircraft differ, e.g. {tail}: the file says {file}, the state {state}")
    if found.tickets.keys() != truth.cancelled:
        said.append(f"{len(truth.cancelled):,} flights were cancelled, {len(found.tickets):,} outputs carry a ticket")
    if len(set(found.tickets.values())) != len(found.tickets):
        said.append("two cancelled flights have the same ticket")
    if found.dead_letters != truth.dead_letters:
        said.append(f"{truth.dead_letters:,} flights have no tail number, {found.dead_letters:,} records are dead letters")
    return said
