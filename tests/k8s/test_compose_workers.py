"""The compose file's two workers as processes on a real Kafka: its commands and variables, this machine's addresses.

Shows what files alone cannot: that workers told so find Kafka, each other, and an end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from confluent_kafka import Producer

from tests.broker.ports import PortLease
from tests.broker.topics import create_topics
from tests.conftest import ClusterFactory
from tests.k8s.tools import PROJECT

SERVICES = cast("dict[str, dict[str, Any]]", yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"])
NAMES = ["worker-1", "worker-2"]
FLIGHTS = [("N14228", 11), ("N24211", 20), ("N619AA", 33), ("N804JB", -18), ("N668DN", 0), ("N39463", 12)]
SHARDS = 8
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of the compose file, here."""

    process: subprocess.Popen[bytes]
    url: str
    admin_url: str
    log: Path

    def ready(self) -> bool:
        """Whether it says so."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.admin_url}/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """One of its metrics, over all labels."""
        lines = httpx.get(f"{self.admin_url}/metrics", timeout=5).raise_for_status().text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def until(what: str, condition: Callable[[], bool], workers: list[Worker]) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it did not come true within the time; has the workers' last words.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        logs = "\n".join(worker.log.read_text()[-3000:] for worker in workers)
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S:g} s: {what}\n{logs}"
        time.sleep(0.1)


@pytest.fixture
def broker(kafka_cluster: ClusterFactory) -> str:
    """A broker as the compose file's: no topics but those that its topic-init makes."""
    servers = kafka_cluster(properties={"auto.create.topics.enable": False}).bootstrap_servers
    create_topics(servers, {"departures": SHARDS, "arrivals": SHARDS})
    return servers


@pytest.fixture
def workers(broker: str, tmp_path: Path) -> Iterator[list[Worker]]:
    """Both workers, ready, each owning shards."""
    with ExitStack() as stack:
        started = [start(name, broker, tmp_path, stack) for name in NAMES]
        until("both are ready", lambda: all(worker.ready() for worker in started), started)
        owns = "odradek_shards_owned"
        until("each owns shards", lambda: all(0 < worker.metric(owns) < SHARDS for worker in started), started)
        yield started


def start(name: str, broker: str, directory: Path, stack: ExitStack) -> Worker:
    """Start one with what the compose file says, hosts, ports and folders being this machine's."""
    public, admin, private = (stack.enter_context(leased()) for _ in range(3))
    here = {f"{name}:9071": f"127.0.0.1:{private}", "9071": str(private), "kafka:9092": broker}
    command, environment = SERVICES[name]["command"], SERVICES[name]["environment"]
    log = directory / f"{name}.log"
    roots = [PROJECT, *(PROJECT / root for root in ("sdk", "runtime", "connectors"))]
    told = {
        **{variable: translated(value, here) for variable, value in environment.items()},
        "ODRADEK_PORT": str(public),
        "ODRADEK_ADMIN_PORT": str(admin),
        "PYTHONPATH": os.pathsep.join(map(str, roots)),
    }
    here["/data"] = str(directory / name)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "odradek_runtime.cli", *(translated(word, here) for word in command)],
            env={**os.environ, **told}, cwd=directory, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    stack.callback(end, process)
    return Worker(process, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}", log)


def translated(text: str, here: dict[str, str]) -> str:
    """The first of the compose file's addresses in a text, as this machine's."""
    for there, address in here.items():
        if there in text:
            return text.replace(there, address)
    return text


@contextmanager
def leased() -> Generator[int]:
    """A port of this machine."""
    lease = PortLease.take()
    try:
        yield lease.port
    finally:
        lease.release()


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def publish(broker: str) -> None:
    """Put the flights into the topic, as `odradek publish` would."""
    producer = Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    for number, (aircraft, delay) in enumerate(FLIGHTS):
        flight = {"time_hour": "2013-01-01 05:00:00", "carrier": "UA", "flight": number, "tailnum": aircraft}
        flight |= {"origin": "EWR", "dep_time": 517, "arr_delay": delay}
        producer.produce("departures", key=aircraft, value=json.dumps(flight))
    assert producer.flush(30) == 0


def lateness(worker: Worker) -> list[tuple[str, int]]:
    """What a worker answers for each aircraft, whoever owns it."""
    asked = [(name, httpx.post(f"{worker.url}/aircraft/{name}/lateness", timeout=30)) for name, _ in FLIGHTS]
    return [(name, answer.raise_for_status().json()) for name, answer in asked]


def test_workers_told_so_find_kafka_each_other_and_an_end(workers: list[Worker], broker: str) -> None:
    publish(broker)
    late = [(aircraft, max(0, delay)) for aircraft, delay in FLIGHTS]
    until("all flights are counted", lambda: lateness(workers[0]) == late, workers)
    # Each owns a part of the shards, so each had to ask the other, at the URL that it advertises.
    assert lateness(workers[1]) == late
    assert all(worker.metric("odradek_shards_owned") < SHARDS for worker in workers)

    started = time.monotonic()
    workers[0].process.send_signal(signal.SIGTERM)
    grace_s = float(SERVICES[NAMES[0]]["stop_grace_period"].removesuffix("s"))
    assert workers[0].process.wait(grace_s) == 0, workers[0].log.read_text()
    until("the other owns all", lambda: workers[1].metric("odradek_shards_owned") == SHARDS, workers[1:])
    until("and has them restored", workers[1].ready, workers[1:])
    assert lateness(workers[1]) == late
    assert time.monotonic() - started < grace_s
