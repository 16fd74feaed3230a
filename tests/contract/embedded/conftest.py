"""Embedded logs in folders of their own, opened and opened again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Log


class OpenLog(Protocol):
    """Opens the test's folder; whatever is still open is closed at the end."""

    def __call__(
        self, *, fsync: bool = False, clock: Callable[[], float] | None = None, release_deadline_s: float = 30.0
    ) -> EmbeddedLog: ...


class Clock:
    """Unix seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[OpenLog]:
    opened: list[EmbeddedLog] = []

    def open_(*, fsync: bool = False, clock: Callable[[], float] | None = None, release_deadline_s: float = 30.0) -> EmbeddedLog:
        """Cleaning happens only when the test calls `clean`."""
        folder = tmp_path / "log"
        if clock is None:
            log = EmbeddedLog(folder, fsync=fsync, release_deadline_s=release_deadline_s, clean_interval_s=0)
        else:
            log = EmbeddedLog(folder, fsync=fsync, clock=clock, release_deadline_s=release_deadline_s, clean_interval_s=0)
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()


def make_app(log: Log, app: str, shards: int) -> None:
    """The internal topics of an app."""
    log.create_topic(f"{app}.commands", shards, {"retention.ms": "-1"})
    log.create_topic(f"{app}.journal", shards, {"cleanup.policy": "compact"})
    log.create_topic(f"{app}.state", shards, {"cleanup.policy": "compact"})
