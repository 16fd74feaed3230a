"""What a worker counts: plain integers the engine bumps once per epoch, and what a scrape reads beside them.

It knows nothing of Prometheus: `admin.exposition` turns a `Metrics` and a `Snapshot` into the text of `/metrics`.
Counting must stay cheaper than the work counted, so there are no locks: the engine's thread writes, others only read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COMMIT_BOUNDS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the commit-latency buckets, in seconds: fine about 2 to 10 ms, coarse about the timeouts."""


class Histogram:
    """A histogram with fixed buckets: `counts[i]` values were <= `bounds[i]` and above the bound before it.

    >>> h = Histogram((1.0, 2.0)); h.observe(1.5); h.observe(9.0); (h.counts, h.total, h.sum)
    ([0, 1, 1], 2, 10.5)
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = COMMIT_BOUNDS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value (seconds, for the commit latency)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""Of invocations, in seconds: from one commit to a day."""


NO_HANDLER = ""
"""Stands for the handler of what has none: a command that cannot be read, say."""


@dataclass(slots=True)
class HandlerMetrics:
    """Counters of one handler."""

    started: int = 0
    failed: int = 0
    retries: int = 0
    step_retries: int = 0
    dead_letters: int = 0
    skipped: int = 0
    """Bad records left out because their subscription says so."""
    paused: int = 0
    """Invocations paused: they wait for somebody's help."""
    seconds: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_S))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a worker holds, all its shards together."""

    invocations: Mapping[tuple[str, str], tuple[int, float]]
    """(`service/handler`, status) -> how many, and for how many seconds the oldest has been there."""
    pending: Mapping[str, int]
    due: Mapping[str, int]
    age_s: float
    """How old the oldest of these figures is."""
    outboxes: Mapping[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])
    """App -> how many commands wait until it can be told, and for how many seconds the oldest has."""


@dataclass(slots=True)
class Metrics:
    """Counters of one worker since it started. The engine adds to them when an epoch has been committed."""

    events: int = 0
    """Records and commands whose effects are committed."""
    epochs: int = 0
    epochs_refused: int = 0
    """Epochs that were fenced, aborted, or whose outcome was unknown."""
    outputs: int = 0
    """Records written to topics: what handlers published, commands, dead letters."""
    steps: int = 0
    """Step results recorded."""
    stores_rebuilt: int = 0
    """Stores that could not be used any more: set aside, and rebuilt from the log."""
    foreign_records: dict[str, int] = field(default_factory=dict[str, int])
    """By changelog topic: records that a restore has left out, since they are not the app's own."""
    stalls: dict[str, int] = field(default_factory=dict[str, int])
    """How often each handler has kept the worker's loop for longer than it may; "" is the engine itself."""
    stalled_s: float = 0.0
    """For how long the loop has been kept now."""
    stalled_by: str = ""
    """Who has kept it for so long that this worker is of no use to anybody; empty while nobody has."""
    commit_s: Histogram = field(default_factory=Histogram)
    """Seconds from sending a transaction to knowing that it is durable."""
    handlers: dict[str, HandlerMetrics] = field(default_factory=dict[str, HandlerMetrics])
    """By `service/handler`; what concerns none of the app's handlers stands under NO_HANDLER."""

    @property
    def retries(self) -> int:
        """Attempts of invocations and of steps repeated after a failure."""
        return sum(each.retries + each.step_retries for each in list(self.handlers.values()))

    @property
    def dead_letters(self) -> int:
        return sum(each.dead_letters for each in list(self.handlers.values()))

    @property
    def skipped(self) -> int:
        return sum(each.skipped for each in list(self.handlers.values()))

    @property
    def paused(self) -> int:
        return sum(each.paused for each in list(self.handlers.values()))

    def restored(self, foreign: Mapping[str, int], *, rebuilt: bool) -> None:
        """A shard is here: what was left out of it, and whether its store was of no use."""
        self.stores_rebuilt += rebuilt
        for topic, records in foreign.items():
            self.foreign_records[topic] = self.foreign_records.get(topic, 0) + records

    def add(self, tally: Mapping[tuple[str, str], int], lasted_s: Iterable[tuple[str, float]]) -> None:
        """What an epoch that is durable now has done."""
        for (what, target), number in tally.items():
            handler = self.handlers.setdefault(target, HandlerMetrics())
            setattr(handler, what, getattr(handler, what) + number)
        for target, seconds in lasted_s:
            self.handlers.setdefault(target, HandlerMetrics()).seconds.observe(seconds)


class Restore(TypedDict):
    """How far the restore of one shard has come, in changelog records; `trouble`: why its last attempt came to nothing."""

    done_records: int
    total_records: int
    trouble: NotRequired[str]


class Snapshot(TypedDict, total=False):
    """What `Worker.snapshot()` tells at one moment; what is missing is not exported."""

    shards_owned: Sequence[int]
    restoring: Mapping[int, Restore]
    """Shards that are owned and not yet restored."""
    withdrawn: str
    """Why this worker has left the group by itself; empty when it has not."""
    stalled: str
    """Who has kept the loop for too long, and for how long; empty while nobody has."""
    log_trouble: str
    """Why the log cannot be used now; empty while it answers."""
    standing: Standing
    """What runs, waits and is due."""
    lag_records: Mapping[tuple[str, int], int]
    """(topic, partition) -> committed-to-end distance of the input and commands partitions that are read here."""
    lag_seconds: Mapping[tuple[str, int], float]
    """(topic, partition) -> for how long the oldest record that is not processed has been there."""
    in_flight: int
    """Invocations that have started and not ended."""
    coroutines_cached: int
    inputs_paused: bool
    """Too much waits (steps, starts under a limit): nothing is read but commands."""
    refused: Sequence[tuple[str, str]]
    """(topic or other resource, operation) that the brokers refuse at the moment."""
    held_bytes: Mapping[str, int]
    """Share of `memory_bytes` -> what is held of it now."""
    queues: Mapping[str, int]
    """Name of a bounded queue -> its length now."""
