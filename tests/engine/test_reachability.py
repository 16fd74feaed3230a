"""What is told of a log that answers in part: a shard whose restore comes no further is named, and no other."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from odradek_runtime.worker import reachability
from odradek_runtime.worker.engine.flags import Flags
from odradek_runtime.worker.reachability import Reachability
from odradek_runtime.worker.restore.progress import Progress
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from odradek_runtime.core.epoch import Epoch


@dataclass
class Idle:
    """An engine without an epoch in flight, and its owned shards."""

    inflight: Epoch | None = None
    flags: Flags = field(default_factory=Flags)
    restoring: dict[int, Progress] = field(default_factory=dict[int, Progress])


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "ASK_S", 0.01)
    monkeypatch.setattr(reachability, "RESTORE_S", 0.5)


@contextmanager
def watching(idle: Idle) -> Generator[Reachability]:
    stopping = threading.Event()
    watched = Reachability(lambda seconds: None, idle, idle, stopping)
    watched.start()
    yield watched
    stopping.set()
    watched.join()


def test_a_restore_that_comes_no_further_is_told_until_it_does() -> None:
    silent, moving = Progress(), Progress(total_records=10**9)
    idle = Idle(restoring={1: silent, 2: moving})
    with watching(idle) as watched:

        def told(*numbers: int) -> bool:
            moving.cover(moving.done_records + 1)
            return tuple(watched.stuck) == numbers

        until(lambda: told(1))
        assert "the log has brought it no further" in watched.stuck[1]
        silent.trouble = "the coordinator is away"
        silent.begin(0)  # tried again, and to no avail
        until(lambda: told(1) and "the coordinator is away" in watched.stuck[1])
        silent.cover(1)
        until(lambda: told())
        del idle.restoring[1], idle.restoring[2]
        until(lambda: told())
        assert watched.trouble == ""


def test_a_log_that_answers_and_takes_nothing_is_told_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "COMMIT_S", 0.3)
    idle = Idle()
    with watching(idle) as watched:
        idle.flags.refused = "the disk is full"
        until(lambda: watched.trouble.endswith("s: the disk is full"))
        assert watched.trouble.startswith("the log has taken nothing for")
        idle.flags.refused = ""
        until(lambda: watched.trouble == "")
