"""A whole worker on Kafka for a test: it runs an app until the test is over, and must not have failed by then."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odradek import App
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Log, Output
from odradek_runtime.worker.worker import Worker
from tests.kafka.raw import eventually


@contextmanager
def running(app: App, log: Log, servers: str, directory: Path, **settings: Any) -> Generator[Worker]:
    """Start a worker and wait until it serves."""
    worker = Worker(app, log, Settings(bootstrap_servers=servers, data_dir=directory, **settings), in_memory=True)
    worker.start()
    try:
        eventually(lambda: worker.ready)
        yield worker
    finally:
        worker.stop()
    assert worker.failed is None, worker.failed


def publish(log: Log, name: str, *outputs: Output) -> None:
    """Write records from outside, in one transaction."""
    publisher = log.publisher(name)
    publisher.publish(outputs, publisher.position() + len(outputs))
    publisher.close()
