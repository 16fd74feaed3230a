"""Events with a step each: how many outputs are committed in a second, while a backlog of events waits in a topic.

A contender has as many steps under way as it lets run at once: a thousand with odradek and Restate. On Kafka outputs are seen
as `bench.measure` sees them; on the embedded log by the worker's own counter, and the outputs are audited from its files.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx

from bench.contenders import Run
from bench.measure import Output, StableOffsets, read_output, throughput_of
from bench.waits.figure import Figure, Scenario
from bench.waits.site import Site
from bench.workload import PARTITIONS, Workload
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log import port
from odradek_runtime.node.log_opening import open_log

WARM_UP = 0.3
LOOK_EVERY_S = 0.1
QUIET_S = 1.0
START_TIMEOUT_S = 60.0
STALL_S = 20.0
BATCH = 5_000
"""Events are written to the embedded log in batches of so many."""
OUTPUTS = "odradek_outputs_total"
"""It counts a few records more than the outputs: what a worker tells itself when it takes its shards."""


class Watch(Protocol):
    """Looks at the outputs while a contender works."""

    @property
    def total(self) -> int:
        """About how many have been committed so far."""
        ...

    @property
    def quiet_s(self) -> float:
        """For how long there was none."""
        ...


class Counted:
    """Samples the counter of committed outputs at a worker's admin port in a thread, from `start()` to `stop()`."""

    def __init__(self, admin_port: int) -> None:
        self.samples: list[tuple[float, int]] = []
        self._url = f"http://127.0.0.1:{admin_port}/metrics"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outputs-counter", daemon=True)

    @property
    def total(self) -> int:
        return self.samples[-1][1] if self.samples else 0

    @property
    def quiet_s(self) -> float:
        changed = next((at_s for at_s, count in reversed(self.samples) if count != self.total), None)
        return 0.0 if not self.samples else self.samples[-1][0] - (self.samples[0][0] if changed is None else changed)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._stopping.wait(LOOK_EVERY_S):
                try:
                    said = client.get(self._url).text
                except httpx.TransportError:
                    continue  # who waits for progress sees a lasting failure
                self.samples.append((time.perf_counter(), counter_in(said)))


def counter_in(metrics: str, name: str = OUTPUTS) -> int:
    """The value of a metric without labels in Prometheus' text form; 0 without one."""
    return round(sum_in(metrics, f"{name} "))


def sum_in(metrics: str, start: str) -> float:
    """The sum of the samples whose lines begin like that: of all labels of a metric, if it ends in `{`."""
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(start))


@dataclass(frozen=True, slots=True)
class Events:
    """The work of one scenario of events, which every contender does from its start."""

    scenario: str
    workload: Workload
    expected: Counter[bytes]
    limit_s: float

    def on_kafka(self, site: Site, run: Run, contender: str, number: int, *, counted: bool) -> Figure:
        """Watch a contender that reads from Kafka and writes there.

        Raises:
            RuntimeError: it never began, stopped half-way, or wrote something wrong.
        """
        offsets = StableOffsets(run.bootstrap_servers, run.output)
        with _watching(offsets.start, offsets.stop):
            self._wait(site, offsets)
        output = read_output(run.bootstrap_servers, run.output)
        self._audit(output, counted=counted)
        return self._figure(site, [(each.at_s, output.visible_at(each)) for each in offsets.samples], contender, number)

    def embedded(self, site: Site, contender: str, number: int) -> Figure:
        """Watch a worker on the embedded log. Raises RuntimeError as `on_kafka` does."""
        counter = Counted(site.admin_port)
        with _watching(counter.start, counter.stop):
            self._wait(site, counter)
        return self._figure(site, counter.samples, contender, number)

    def audit_embedded(self, data: Path, topic: str) -> None:
        """Read what a worker has written to its log; it must have ended. Raises RuntimeError when something is wrong."""
        output = Output()
        log = open_log(replace(Settings(), data_dir=data))
        try:
            for number in range(PARTITIONS):
                partition = port.Partition(topic, number)
                for messages in log.scan(partition, *log.offsets(partition)):
                    for message in messages:
                        output.add(number, message)
        finally:
            log.close()
        self._audit(output, counted=True)

    def fill_embedded(self, data: Path, run: Run) -> None:
        """Write the events into an embedded log before a worker opens it."""
        data.mkdir(mode=0o700, parents=True)
        log = open_log(replace(Settings(), data_dir=data, fsync=False))
        for topic in (run.input, run.output):
            log.create_topic(topic, PARTITIONS, {})
        publisher = log.publisher(f"{run.id}-fill")
        records = self.workload.records()
        for start in range(0, len(records), BATCH):
            batch = [port.Output(run.input, None, key, value) for key, value in records[start : start + BATCH]]
            publisher.publish(batch, start + 1)
        publisher.close()
        log.close()

    def _wait(self, site: Site, watch: Watch) -> None:
        started, first = time.perf_counter(), 0.0
        while True:
            time.sleep(LOOK_EVERY_S)
            site.check()
            now = time.perf_counter()
            if watch.total == 0:
                if now - started > START_TIMEOUT_S:
                    raise RuntimeError(f"no committed output after {START_TIMEOUT_S:.0f} s:\n{site.said()}")
                continue
            first = first or now
            if (watch.total >= self.workload.events and watch.quiet_s > QUIET_S) or now - first > self.limit_s:
                return
            if watch.quiet_s > STALL_S:
                raise RuntimeError(f"stopped at about {watch.total} of {self.workload.events}:\n{site.said()}")

    def _audit(self, output: Output, *, counted: bool) -> None:
        complete = output.records >= self.workload.events
        mistakes = output.mistakes(self.expected, counted=counted, complete=complete)
        if mistakes:
            raise RuntimeError(f"wrong output: {'; '.join(mistakes[:5])} … ({len(mistakes)} in all)")

    def _figure(self, site: Site, visible: list[tuple[float, int]], contender: str, number: int) -> Figure:
        measured = throughput_of(visible, round(visible[-1][1] * WARM_UP))
        cpu_s = site.processor_s(measured.start_s, measured.end_s)
        return Figure(
            contender, self.scenario, number, measured.records, round(measured.events_per_s, 1),
            round(cpu_s / measured.records * 1e6, 1),
        )  # fmt: skip


def backlog_of(scenario: Scenario, bootstrap_servers: str, events: int, limit_s: float, told: Callable[[int], None]) -> Events:
    """Write the events of a scenario into a topic of their own; `told` hears how many have been."""
    workload = Workload(f"bench-input-{time.time_ns():x}", events, scenario.keys, step_s=scenario.step_s)
    return Events(scenario.name, workload, workload.load(bootstrap_servers, told), limit_s)


@contextmanager
def _watching(start: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()
