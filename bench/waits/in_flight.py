"""Keep so many records in flight: send the next one when an output has become visible; a process of its own.

In flight is what has been sent and whose output a read_committed reader has not yet seen, so that every contender has the same
number to do at any moment, whatever its own bounds are. What comes of it is a rate; the time that a record is in flight
follows from it. Stands around a contender that runs a step for each event and counts it (`bench.waits.exchange`).

    python -m bench.waits.in_flight '{"place": {"bootstrap_servers": "...", "input": "...", "output": "..."}, "phases": [...]}'
"""

import random
import time
from dataclasses import dataclass

from bench.waits.exchange import Exchange, Plan, carry_out
from bench.waits.load import percentiles_s

SEED = 20130101
READ_TIMEOUT_S = 0.05
GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Phase:
    """So many records in flight over so many keys, chosen at random; `step_s` is how long the step of each one waits."""

    in_flight: int
    keys: int
    step_s: float
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a phase: the outputs from the first ones after the warm-up to the last ones; moments are of `perf_counter`."""

    records: int
    p50_ms: float
    p99_ms: float
    start_s: float
    end_s: float

    @property
    def per_s(self) -> float:
        return self.records / (self.end_s - self.start_s)


def seen(exchange: Exchange, phase: Phase) -> Seen:
    """Keep them in flight for the time of the phase, then wait for the last output.

    Raises:
        RuntimeError: outputs are missing, not what they should be, or too few to say a rate.
    """
    choose = random.Random(SEED)
    more = b',"step_s":%f' % phase.step_s if phase.step_s else b""
    exchange.taken_s = []
    exchange.counts_from_s = began_s = time.perf_counter()
    warm_at_s = began_s + phase.warm_up_s
    first = last = (0, 0.0)
    while (now_s := time.perf_counter()) < warm_at_s + phase.seconds or last[0] <= first[0]:
        if now_s > warm_at_s + phase.seconds + GIVE_UP_S:
            raise RuntimeError(f"{len(exchange.taken_s)} outputs in {now_s - began_s:.0f} s")
        for _ in range(phase.in_flight - exchange.under_way):
            exchange.send(choose.randrange(phase.keys), more)
        if exchange.read(READ_TIMEOUT_S) and (now_s := time.perf_counter()) >= warm_at_s:
            last = len(exchange.taken_s), now_s
            first = first if first[0] else last
    taken_s = exchange.taken_s[first[0] : last[0]]
    exchange.drain()
    p50_s, p99_s = percentiles_s(taken_s)
    return Seen(len(taken_s), round(p50_s * 1000, 3), round(p99_s * 1000, 3), first[1], last[1])


if __name__ == "__main__":
    carry_out(Plan[Phase], seen, "keeping records in flight")
