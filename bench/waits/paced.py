"""Produce at a given rate, and read the outputs as they become visible to a read_committed reader; a process of its own.

Stands around a contender that counts the events of each key and publishes `{"count": n}` for every one (`bench.waits.exchange`).

    python -m bench.waits.paced '{"place": {"bootstrap_servers": "...", "input": "...", "output": "..."}, "phases": [...]}'
"""

import time
from dataclasses import dataclass

from bench.waits.exchange import KEYS, Exchange, Plan, carry_out
from bench.waits.load import percentiles_s


@dataclass(frozen=True, slots=True)
class Phase:
    """So many records a second for so long; what is sent in the first `warm_up_s` does not count."""

    per_s: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a phase; moments are of `time.perf_counter()`."""

    per_s: int
    records: int
    sent_per_s: float
    p50_ms: float
    p99_ms: float
    start_s: float
    end_s: float


def seen(exchange: Exchange, phase: Phase) -> Seen:
    """Send at that rate, read meanwhile, wait for the last output.

    Raises:
        RuntimeError: outputs are missing, or not what they should be.
    """
    exchange.taken_s = []
    began_s = time.perf_counter()
    exchange.counts_from_s = began_s + phase.warm_up_s
    ends_s, period_s, due_s = exchange.counts_from_s + phase.seconds, 1 / phase.per_s, began_s
    first = 0
    while (now_s := time.perf_counter()) < ends_s:
        if not first and now_s >= exchange.counts_from_s:
            first = exchange.number
        while due_s <= now_s:
            exchange.send(exchange.number % KEYS)
            due_s += period_s
        exchange.read(max(due_s - time.perf_counter(), 0))
    sent = exchange.number - first
    exchange.drain()
    p50_s, p99_s = percentiles_s(exchange.taken_s)
    return Seen(
        phase.per_s, len(exchange.taken_s), round(sent / phase.seconds, 1), round(p50_s * 1000, 3), round(p99_s * 1000, 3),
        exchange.counts_from_s, ends_s,
    )  # fmt: skip


if __name__ == "__main__":
    carry_out(Plan[Phase], seen, "pacing")
