"""Stages, logs in memory and on disk, and an app that counts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from odradek import App
from odradek_runtime.log.embedded import EmbeddedLog
from tests.invariants.stage import Stage

MakeStage = Callable[..., Stage]


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    """An embedded log that goes with the test."""
    made = EmbeddedLog(None, fsync=False, clean_interval_s=0)
    yield made
    made.close()


@pytest.fixture
def stage(log: EmbeddedLog) -> Iterator[MakeStage]:
    """`stage(app, directory=None, **settings)`: an engine that the test drives."""
    with ExitStack() as stack:

        def make(app: App, directory: Path | None = None, **settings: Any) -> Stage:
            made = Stage(app, log, directory, **settings)
            stack.callback(made.close)
            return made

        yield make
