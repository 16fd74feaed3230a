"""The truth: what the file says must be in the log when everything is done, and the auditor who compares.

Stands outside every worker. It reads committed records only, and believes nothing that a worker says of itself.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from examples import demo_data
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS
from odradek_runtime.log.port import Log, Message, Output
from tests.records import committed

Outcome = tuple[str, int, bool]
"""Flight, minutes late, and whether it was rebooked, as an output has them."""


class Departure(NamedTuple):
    """One row of the file; `tail` empty: it has no aircraft and must end as a dead letter."""

    tail: str
    name: str
    late: int
    cancelled: bool

    @property
    def value(self) -> bytes:
        """As the app of these tests reads it."""
        return json.dumps({"name": self.name, "late": self.late, "cancelled": self.cancelled}).encode()

    def output(self, topic: str, partition: int | None = None) -> Output:
        """As a record for the input topic."""
        return Output(topic, partition, self.tail.encode() or None, self.value)


def departures(cache: Path, folder: Path) -> list[Departure]:
    """The whole year in the order of time."""
    source = folder / "departures.csv"
    demo_data.sort(demo_data.fetch(cache), source, None)
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [_departure(row) for row in rows]


def _departure(row: dict[str, str]) -> Departure:
    tail = "" if row["tailnum"] == "NA" else row["tailnum"]
    late = 0 if row["arr_delay"] == "NA" else max(0, int(row["arr_delay"]))
    return Departure(tail, f"{row['time_hour']} {row['carrier']}{row['flight']}", late, row["dep_time"] == "NA")


@dataclass(frozen=True)
class Names:
    """Where an app's input and output are."""

    app: str
    input: str
    output: str

    @classmethod
    def of(cls, app: str) -> Names:
        """The topics of `tests/faults/apps.py` under this name."""
        return cls(app, f"{app}-departures", f"{app}-arrivals")


@dataclass(frozen=True)
class Tally:
    """What went wrong, counted: flights without their output, outputs too many, aircraft out of order, entries left over."""

    lost: int
    doubled: int
    out_of_order: int
    stuck: int

    def __str__(self) -> str:
        return f"lost {self.lost}, doubled {self.doubled}, out of order {self.out_of_order}, stuck {self.stuck}"


def tally(log: Log, names: Names, truth: Sequence[Departure]) -> Tally:
    """What `audit` says of outputs, dead letters and entries left over, in numbers."""
    wanted, found = _wanted(truth), _found(log, names)
    sources = _dead_letter_sources(log, names)
    lost = sum(1 for row in truth if not row.tail) - len(sources)
    doubled = sources.total() - len(sources)
    disordered = 0
    for tail in wanted.keys() | found.keys():
        due, seen = wanted[tail], found[tail]
        lost += (Counter(due) - Counter(seen)).total()
        doubled += (Counter(seen) - Counter(due)).total()
        disordered += [one for one in dict.fromkeys(seen) if one in due] != [one for one in dict.fromkeys(due) if one in seen]
    return Tally(lost, doubled, disordered, len(_left(log, names)))


def audit(log: Log, names: Names, truth: Sequence[Departure], again: Sequence[Departure] = ()) -> list[str]:
    """Every way in which the log is not what the truth says; empty = nothing lost, nothing twice, nothing out of order.

    `again`: of the truth, what was replayed after all of it had come out.
    """
    whole = [*truth, *again]
    return [
        *_outputs(log, names, whole),
        *_state(log, names, whole),
        *_dead_letters(log, names, truth, again),
        *_writers(log, names),
        *_left_over(log, names),
    ]


def tickets(log: Log, names: Names) -> dict[str, str]:
    """The ticket of each cancelled flight, as its output says."""
    found: dict[str, str] = {}
    for message in committed(log, names.output):
        arrival = json.loads(message.value() or b"null")
        if arrival["ticket"] is not None:
            found[arrival["flight"]] = arrival["ticket"]
    return found


def longest_silence_s(log: Log, names: Names) -> float:
    """The longest time in which one partition of the output had nothing new, while its input kept coming."""
    at: dict[int, list[int]] = defaultdict(list)
    for message in committed(log, names.output):
        at[message.partition()].append(message.timestamp()[1])
    return max(max((later - earlier for earlier, later in pairwise(sorted(times))), default=0) for times in at.values()) / 1000


def _outputs(log: Log, names: Names, truth: Sequence[Departure]) -> list[str]:
    wanted, found = _wanted(truth), _found(log, names)
    given = Counter(json.loads(message.value() or b"null")["ticket"] for message in committed(log, names.output))
    said = [f"ticket {ticket} was given {times} times" for ticket, times in given.items() if ticket and times > 1][:3]
    for tail in sorted(wanted.keys() | found.keys()):
        if wanted[tail] != found[tail]:
            said.append(_difference(tail, wanted[tail], found[tail]))
    return said if len(said) < 6 else [*said[:5], f"... and {len(said) - 5} more aircraft"]


def _wanted(truth: Sequence[Departure]) -> dict[str, list[Outcome]]:
    """The outcomes that are due, by aircraft, in order."""
    wanted: dict[str, list[Outcome]] = defaultdict(list)
    for row in truth:
        if row.tail:
            wanted[row.tail].append((row.name, row.late, row.cancelled))
    return wanted


def _found(log: Log, names: Names) -> dict[str, list[Outcome]]:
    """The outcomes that came, by aircraft, in order."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for message in committed(log, names.output):
        arrival = json.loads(message.value() or b"null")
        found[(message.key() or b"").decode()].append((arrival["flight"], arrival["minutes_late"], arrival["ticket"] is not None))
    return found


def _difference(tail: str, wanted: list[Outcome], found: list[Outcome]) -> str:
    lost, extra = Counter(wanted) - Counter(found), Counter(found) - Counter(wanted)
    if lost or extra:
        return f"{tail}: outputs lost {sorted(lost)[:3]} ({lost.total()}), twice or never due {sorted(extra)[:3]} ({extra.total()})"
    first = next(index for index, pair in enumerate(zip(wanted, found, strict=True)) if pair[0] != pair[1])
    return f"{tail}: output {first} out of order: {found[first]} where {wanted[first]} was due"


def _state(log: Log, names: Names, truth: Sequence[Departure]) -> list[str]:
    wanted: dict[str, Counter[str]] = defaultdict(Counter)
    for row in truth:
        if row.tail:
            wanted[row.tail].update(flights=1, minutes_late=row.late, rebooked=int(row.cancelled))
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for message in committed(log, f"{names.app}.state"):
        service, key, name = (message.key() or b"").decode().split("/")
        if service == "aircraft":
            found[key][name] = json.loads(message.value() or b"0")
    wrong = [tail for tail in sorted(wanted.keys() | found.keys()) if +wanted[tail] != +found[tail]]
    if not wrong:
        return []
    tail = wrong[0]
    return [f"state of {len(wrong)} aircraft is wrong, e.g. {tail}: {dict(found[tail])}, the file says {dict(wanted[tail])}"]


def _dead_letters(log: Log, names: Names, truth: Sequence[Departure], again: Sequence[Departure]) -> list[str]:
    wanted, replayed = (sum(1 for row in rows if not row.tail) for rows in (truth, again))
    sources = _dead_letter_sources(log, names)
    twice = [source for source, times in sources.items() if times > 1]
    said = [f"{len(twice)} dead letters twice, {replayed} were replayed: {twice[:3]}"] if len(twice) != replayed else []
    if sources.total() != wanted + replayed:
        said.append(f"{sources.total()} dead letters in all, {wanted + replayed} were due")
    if len(sources) != wanted:
        said.append(f"{len(sources)} dead letters, {wanted} departures have no aircraft")
    return said


def _dead_letter_sources(log: Log, names: Names) -> Counter[tuple[bytes, bytes]]:
    """Partition and offset of each record that ended as a dead letter, with how often it did."""
    sources: Counter[tuple[bytes, bytes]] = Counter()
    for message in committed(log, f"{names.app}.dead-letters"):
        headers = {name: value or b"" for name, value in message.headers() or ()}
        sources[headers["odradek-partition"], headers["odradek-offset"]] += 1
    return sources


def _writers(log: Log, names: Names) -> list[str]:
    """One writer: in a changelog no epoch of an earlier owner may follow one of a later (invariants 1 and 2)."""
    said: list[str] = []
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for message in committed(log, f"{names.app}.state"):
        stamp = dict(message.headers() or ()).get("odradek") or b"0.0"
        incarnation, epoch = (int(part) for part in stamp.split(b"."))
        said += _backwards(last, message, (incarnation, epoch))
    for message in committed(log, f"{names.app}.journal"):
        value = message.value()
        if message.key() == keys.POSITIONS and value is not None:
            positions = POSITIONS.decode(value)
            said += _backwards(last, message, (positions.incarnation, positions.epoch))
    return said[:3]


def _backwards(last: dict[tuple[str, int], tuple[int, int]], message: Message, stamp: tuple[int, int]) -> list[str]:
    place = (message.topic(), message.partition())
    before, last[place] = last.get(place, (0, 0)), stamp
    if stamp >= before:
        return []
    return [f"{place[0]}[{place[1]}]@{message.offset()}: epoch {stamp} was written after {before}: two writers"]


def _left_over(log: Log, names: Names) -> list[str]:
    """Nothing is stuck: no invocation, lock or timer is left in the journal. What is known of replays is kept."""
    left = _left(log, names)
    return [f"{len(left)} journal entries are left over, e.g. {left[:3]}"] if left else []


def _left(log: Log, names: Names) -> list[tuple[int, bytes]]:
    latest: dict[tuple[int, bytes], bytes | None] = {}
    for message in committed(log, f"{names.app}.journal"):
        latest[message.partition(), message.key() or b""] = message.value()
    kept = (keys.POSITIONS, b"r", b"k", b"u")
    return [place for place, value in latest.items() if value is not None and not place[1].startswith(kept)]
