"""Resets under load on Kafka: positions moved while producers go on, workers are killed, shards move. All is counted exactly."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek_runtime.core.records.formats import Position
from odradek_runtime.log.port import Log, Message, Partition
from odradek_runtime.recovery.reset_plan import journal_of, standing
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.feed import Feed
from tests.faults.settled import settled
from tests.faults.test_replay import ask
from tests.faults.truth import Departure, Names
from tests.faults.workers import Place, Worker, until
from tests.records import committed

pytestmark = pytest.mark.faults

RATE = 500
AGAIN = 500
"""About so many offsets a reset goes back: dozens of epochs, so that workers can be killed between them."""
SOME = 100
"""Offsets that are read for the first time before the next reset, at least."""
SHORT = ("--session-timeout", "2")


class Road:
    """An app of two workers under load, its resets, and what must come of them."""

    def __init__(self, here: Place, rows: list[Departure], workers: int) -> None:
        seed = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 10**6)
        here.note(f"seed {seed}: FAULTS_SEED={seed} repeats the choices")
        self.chance = random.Random(seed)
        self.here, self.names = here, Names.of(here.app)
        self.log: Log = here.open()
        feed.create(self.log, self.names, PARTITIONS)
        self.one, self.other = (here.worker(name, *SHORT) for name in ("one", "other"))
        for worker in (self.one, self.other)[:workers]:
            worker.start()
        until(lambda: sum(self.owned().values()) == PARTITIONS and len(self.owned()) == workers, "owners of all shards")
        self.feed = Feed(here.open, self.names.input, [row for row in rows if row.tail], RATE)
        self._moves: dict[int, list[tuple[int, int]]] = defaultdict(list)

    # --- what is there ---

    def owned(self) -> dict[str, int]:
        """How many shards each member has, by its URL."""
        return {peer.url or "": len(peer.shards) for peer in self.log.peers(self.here.app) if peer.shards}

    def owner(self, shard: int) -> tuple[Worker, Worker]:
        """The worker that has it, and the other one."""
        pairs = ((self.one, self.other), (self.other, self.one))
        found: list[tuple[Worker, Worker]] = []

        def known() -> bool:
            found[:] = [pair for pair in pairs if shard in (pair[0].shards() or [])]
            return bool(found)

        until(known, f"an owner of shard {shard}")
        return found[0]

    def place(self, number: int) -> Position:
        """Where the app stands in a partition of its input, as its journal says."""
        partition = Partition(self.names.input, number)
        found = standing(self.log, journal_of(self.log, self.here.app), number).place(partition)
        return found or Position(*partition, offset=0)

    # --- resets ---

    def behind(self, number: int) -> int:
        """An offset to go back to, once all that was read before the last reset has been read again, and some more beside it."""
        wanted = self._moves[number][-1][1] + SOME if self._moves[number] else AGAIN
        until(lambda: self.place(number).offset > wanted, f"partition {number} beyond {wanted}", every_s=0.05)
        return self.place(number).offset - AGAIN + self.chance.randint(0, SOME)

    def order(self, id_: str, to: dict[int, int]) -> Callable[[Worker], Any]:
        """What has any worker that is asked move these partitions; asked twice, it is one order."""
        parts = [{"partition": number, "offset": offset} for number, offset in to.items()]
        body = {"id": id_, "app": self.here.app, "topic": self.names.input, "parts": parts}
        return lambda worker: ask(worker, "POST", "/resets", body)

    def moved(self, id_: str, to: dict[int, int]) -> None:
        """Wait until all of them have moved by this order, and keep how far each had come by then."""
        for number, offset in to.items():
            until(lambda number=number: self.place(number).reset == id_, f"partition {number} moved by {id_}", every_s=0.005)
            mark = self.place(number).until
            assert mark > offset, f"{id_} moved partition {number} ahead, from {mark} to {offset}"
            self._moves[number].append((offset, mark))
            self.here.note(f"{id_}: partition {number} went back from {mark} to {offset}")

    def end(self) -> None:
        """The load ends; everything comes out; it is as many times there as it should."""
        sent = self.feed.stop()
        rows = list(self.expected())
        assert len(rows) > sent
        print(f"{sent:,} departures and {len(rows) - sent:,} of them again, in {sum(map(len, self._moves.values()))} moves")
        self.log.close()
        settled(self.here, [worker for worker in (self.one, self.other) if worker.running], self.names, rows)

    def expected(self) -> Iterator[Departure]:
        """What each partition was to be read as: up to where a reset came, then from where it went back to."""
        found: dict[int, list[Message]] = defaultdict(list)
        for message in committed(self.log, self.names.input):
            found[message.partition()].append(message)
        for number, messages in found.items():
            start = 0
            for back_to, mark in self._moves[number]:
                yield from (departure(each) for each in messages if start <= each.offset() < mark)
                start = back_to
            yield from (departure(each) for each in messages if start <= each.offset())


def departure(message: Message) -> Departure:
    told = json.loads(message.value() or b"null")
    return Departure((message.key() or b"").decode(), told["name"], told["late"], told["cancelled"])


def test_one_partition_under_load_while_its_worker_is_killed(place: MakePlace, year: list[Departure]) -> None:
    """Killed once the order is written, a moment later, while it is asked for; and each time while records are read again."""
    road = Road(place("kafka", {"ODRADEK_EPOCH_EVENTS": "25"}), year, workers=2)
    number = road.chance.randrange(PARTITIONS)
    amid = 0
    for when in ("written", "soon", "asked"):
        id_, to = f"reset-{when}", {number: road.behind(number)}
        owner, other = road.owner(number)
        order = road.order(id_, to)
        if when == "asked":
            killer = threading.Timer(road.chance.uniform(0.0, 0.15), owner.kill)
            killer.start()
            asker = threading.Thread(target=order, args=(owner,))
            asker.start()
            killer.join()
            owner.start()  # whoever asks asks again, and may be told that it was ordered already
            asker.join()
        else:
            assert order(other)["new"]
            if when == "soon":
                threading.Event().wait(road.chance.uniform(0.0, 0.1))
            owner.kill()
            owner.start()
        assert not order(other)["new"], "the same order again does nothing"
        road.moved(id_, to)
        owner, _ = road.owner(number)
        owner.kill()
        amid += road.place(number).offset < road.place(number).until
        owner.start()
    print(f"{amid} of 3 kills while records were read again")
    assert amid, "all of them were through before: that proves little"
    road.behind(number)
    road.end()


@pytest.mark.parametrize("change", ["joins", "leaves"])
def test_all_partitions_while_a_worker_comes_or_goes(place: MakePlace, year: list[Departure], change: str) -> None:
    """The orders are on their way while shards move to a worker that joins, or from one that leaves."""
    road = Road(place("kafka", {"ODRADEK_EPOCH_EVENTS": "25"}), year, workers=1 if change == "joins" else 2)
    id_, to = f"reset-{change}", {number: road.behind(number) for number in range(PARTITIONS)}
    before = road.owned()
    order = road.order(id_, to)
    if change == "joins":
        road.other.start()
        until(lambda: len(road.log.peers(road.here.app)) == 2, "a second member", every_s=0.001)
        assert order(road.one)["new"]
    else:
        leaving = threading.Thread(target=road.other.stop)
        leaving.start()
        assert order(road.one)["new"]
        leaving.join()
    road.moved(id_, to)
    until(lambda: sum(road.owned().values()) == PARTITIONS and set(road.owned()) != set(before), "other owners", every_s=0.05)
    for number in to:
        road.behind(number)
    assert not order(road.one)["new"]
    road.end()
