"""Rigs: every test runs with its coroutines kept, and again with a replay at every wait."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from tests.engine.harness import Rig

CACHES = {"kept": 10_000, "replayed": 0}


@pytest.fixture(params=list(CACHES))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Stores in memory, a log that goes with the test."""
    made = Rig(EmbeddedLog(None, fsync=False, clean_interval_s=0), None, CACHES[request.param])
    yield made
    made.close()


@pytest.fixture(params=list(CACHES))
def disk_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Stores and log in the test's folder."""
    log = EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0)
    made = Rig(log, tmp_path, CACHES[request.param])
    yield made
    made.close()
