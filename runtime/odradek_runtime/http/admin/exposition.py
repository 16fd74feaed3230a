"""`/metrics`: a worker's `Metrics` and `Snapshot` as Prometheus text, read at the moment of the scrape.

The registry is the worker's own: two workers in one process (tests) do not meet in a global one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from odradek_runtime.core.metrics import Histogram, Metrics, Snapshot, Standing
    from odradek_runtime.http.ingress.door import Door
    from odradek_runtime.http.ingress.port import Answering

COUNTERS: dict[str, str] = {
    "events": "Records and commands whose effects are committed",
    "epochs": "Committed epochs",
    "epochs_refused": "Epochs that were fenced, aborted, or had an unknown outcome",
    "outputs": "Records written to topics, changelogs aside",
    "steps": "Step results recorded",
    "stores_rebuilt": "Stores that could not be used, set aside and rebuilt from the log",
}
"""Field of `Metrics` -> help; the exported name is `odradek_<field>_total`."""


def joined(texts: Mapping[int, str]) -> str:
    """The expositions of several workers as one: each sample with the label `worker`, each family described once."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for index, text in sorted(texts.items()):
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                heads.setdefault(family, [line])
            elif line.startswith("#"):
                if line not in heads[family]:
                    heads[family].append(line)
            else:
                samples.setdefault(family, []).append(_labelled(line, index))
    return "".join("\n".join([*head, *samples.get(family, [])]) + "\n" for family, head in heads.items())


def _labelled(sample: str, index: int) -> str:
    """One line of an exposition with the worker's label before its own.

    >>> _labelled("odradek_ready 1.0", 2)
    'odradek_ready{worker="2"} 1.0'
    """
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{worker="{index}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{worker="{index}"}} {value}'


class WorkerCollector(Collector):
    """Gives prometheus-client what a worker holds now; `waiting` counts the HTTP requests that wait here, `door` connections."""

    def __init__(self, worker: Answering, waiting: Callable[[], int], door: Door) -> None:
        self._worker = worker
        self._waiting = waiting
        self._door = door

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        yield from _counters(self._worker.metrics)
        yield from _by_handler(self._worker.metrics)
        yield _histogram("odradek_commit_latency_seconds", "From sending to committed", self._worker.metrics.commit_s)
        yield from _stalls(self._worker.metrics)
        yield _foreign(self._worker.metrics)
        snapshot = self._worker.snapshot()
        yield from _gauges(snapshot)
        yield from _lag(snapshot)
        if (standing := snapshot.get("standing")) is not None:
            yield from _standing(standing)
        yield _gauge("odradek_ready", "1 when every owned shard is restored", float(self._worker.ready))
        yield _gauge("odradek_log_reachable", "1 while the log answers", float(not self._worker.log_trouble))
        yield _gauge("odradek_http_requests_waiting", "HTTP requests that wait for an answer", self._waiting())
        yield _gauge("odradek_http_connections", "Connections that are open at the public port", self._door.open)
        yield _gauge("odradek_http_held_bytes", "Bodies, requests that wait and answers in memory", self._door.budget.held_bytes)
        yield _refusals(self._door)


class Exposition:
    """The text of `/metrics`."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, worker: Answering, waiting: Callable[[], int], door: Door) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(WorkerCollector(worker, waiting, door))

    def text(self) -> bytes:
        """The exposition at this moment."""
        return generate_latest(self._registry)


def _counters(metrics: Metrics) -> Iterator[Metric]:
    for field, help_ in COUNTERS.items():
        yield CounterMetricFamily(f"odradek_{field}", help_, value=getattr(metrics, field))


def _refusals(door: Door) -> Metric:
    help_ = "Connections of the public port that were refused or ended"
    family = CounterMetricFamily("odradek_http_refused", help_, labels=["reason"])
    for reason, times in {**door.refused, "memory": door.budget.refused}.items():
        family.add_metric([reason], times)
    return family


def _stalls(metrics: Metrics) -> Iterator[Metric]:
    help_ = "Times that a handler kept the worker's loop for longer than handler_stall_s"
    family = CounterMetricFamily("odradek_loop_stalls", help_, labels=["service", "handler"])
    for target, times in list(metrics.stalls.items()):
        family.add_metric(_labels(target), times)
    yield family
    now = "For how long a handler has kept the worker's loop now; 0: none does"
    yield _gauge("odradek_loop_stalled_seconds", now, metrics.stalled_s)


def _foreign(metrics: Metrics) -> Metric:
    help_ = "Records of the app's own changelogs that a restore has left out, since the app has not written them"
    family = CounterMetricFamily("odradek_foreign_records", help_, labels=["topic"])
    for topic, records in list(metrics.foreign_records.items()):
        family.add_metric([topic], records)
    return family


HANDLER_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "odradek_invocations_started": ("Invocations begun: by a record, a request or a call", ("started",)),
    "odradek_invocations_failed": ("Invocations that ended in a failure", ("failed",)),
    "odradek_invocations_retries": ("Attempts of invocations repeated after a failure", ("retries",)),
    "odradek_retries": ("Attempts of invocations and of steps repeated after a failure", ("retries", "step_retries")),
    "odradek_dead_letters": ("Records and commands that went to a dead-letter topic", ("dead_letters",)),
    "odradek_skipped": ("Bad records left out because their subscription says so", ("skipped",)),
    "odradek_paused": ("Times that an invocation was paused until somebody helps", ("paused",)),
}
"""Name without `_total` -> help, and the fields of `HandlerMetrics` that make it up."""
_LABELS = ("service", "handler")


def _labels(target: str) -> tuple[str, str]:
    """A handler as its two labels; both are empty for what has no handler."""
    service, _, handler = target.partition("/")
    return service, handler


def _by_handler(metrics: Metrics) -> Iterator[Metric]:
    handlers = [(_labels(target), each) for target, each in sorted(metrics.handlers.items())]
    for name, (help_, fields) in HANDLER_COUNTERS.items():
        family = CounterMetricFamily(name, help_, labels=_LABELS)
        for labels, each in handlers:
            family.add_metric(labels, sum(getattr(each, field) for field in fields))
        yield family
    latency = HistogramMetricFamily(
        "odradek_invocation_latency_seconds", "From start to end, of calls and of what had to wait", labels=_LABELS
    )
    for labels, each in handlers:
        latency.add_metric(labels, _buckets(each.seconds), each.seconds.sum)
    yield latency


def _histogram(name: str, help_: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, help_, buckets=_buckets(histogram), sum_value=histogram.sum)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    below = 0
    counts = list(histogram.counts)
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], counts, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets


def _gauges(snapshot: Snapshot) -> Iterator[Metric]:
    owned, restoring = snapshot.get("shards_owned"), snapshot.get("restoring")
    if owned is not None:
        yield _gauge("odradek_shards_owned", "Shards this worker owns", len(owned))
    if restoring is not None:
        yield _gauge("odradek_shards_restoring", "Owned shards that are not yet restored", len(restoring))
        yield _by_label(
            "odradek_restore_remaining_records",
            "Changelog records still to read",
            "shard",
            {str(shard): part["total_records"] - part["done_records"] for shard, part in restoring.items()},
        )
    if (in_flight := snapshot.get("in_flight")) is not None:
        yield _gauge("odradek_invocations_in_flight", "Invocations that have begun and not ended", in_flight)
    if (cached := snapshot.get("coroutines_cached")) is not None:
        yield _gauge("odradek_coroutines_cached", "Suspended coroutines kept live", cached)
    if (paused := snapshot.get("inputs_paused")) is not None:
        yield _gauge("odradek_inputs_paused", "1 while too much waits for the inputs to flow", float(paused))
    if (refused := snapshot.get("refused")) is not None:
        family = GaugeMetricFamily("odradek_refused", "1 while Kafka refuses this", labels=["resource", "operation"])
        for resource, operation in refused:
            family.add_metric([resource, operation], 1)
        yield family
    if (held := snapshot.get("held_bytes")) is not None:
        yield _by_label("odradek_held_bytes", "What is held of memory_bytes, about", "share", held)
    if (queues := snapshot.get("queues")) is not None:
        yield _by_label("odradek_queue_length", "Entries of a bounded queue", "queue", queues)


def _lag(snapshot: Snapshot) -> Iterator[Metric]:
    oldest = "For how long the oldest record that is not processed has been there"
    yield _by_partition("odradek_lag_records", "Committed position to end", snapshot.get("lag_records", {}))
    yield _by_partition("odradek_lag_seconds", oldest, snapshot.get("lag_seconds", {}))


def _by_partition(name: str, help_: str, values: Mapping[tuple[str, int], float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=["topic", "partition"])
    for (topic, partition), value in values.items():
        family.add_metric([topic, str(partition)], value)
    return family


def _standing(standing: Standing) -> Iterator[Metric]:
    labels = [*_LABELS, "status"]
    now = GaugeMetricFamily("odradek_invocations", "Invocations that have not ended", labels=labels)
    oldest = GaugeMetricFamily("odradek_invocations_oldest_seconds", "Since the oldest of them began", labels=labels)
    for (target, status), (number, age_s) in sorted(standing.invocations.items()):
        now.add_metric([*_labels(target), status], number)
        oldest.add_metric([*_labels(target), status], age_s)
    yield now
    yield oldest
    yield _by_label("odradek_timers_pending", "Timers that have not fired", "kind", standing.pending)
    yield _by_label("odradek_timers_due", "Of these, those whose time has come", "kind", standing.due)
    owed = GaugeMetricFamily("odradek_outbox_commands", "Commands that wait until another app takes them", labels=["app"])
    since = GaugeMetricFamily("odradek_outbox_oldest_seconds", "For how long the oldest of them has waited", labels=["app"])
    for app, (number, age_s) in sorted(standing.outboxes.items()):
        owed.add_metric([app], number)
        since.add_metric([app], age_s)
    yield owed
    yield since
    yield _gauge("odradek_census_age_seconds", "How old the oldest of these counts is", standing.age_s)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _by_label(name: str, help_: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
