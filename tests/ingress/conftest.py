"""A front before a scripted worker, on loopback ports the system picks."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError, Peer
from odradek_runtime.node.front import ALONE, Front, Listening
from tests.ingress.scripted import ScriptedWorker
from tests.ingress.shop import make_app

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from odradek_runtime.http.admin.siblings import Place

DATA_DIR = Settings().data_dir
TOKEN = "a-token"  # noqa: S105


class TalkedAboutLog(EmbeddedLog):
    """An embedded log whose answer about the group's members is the test's."""

    def __init__(self) -> None:
        super().__init__(None, fsync=False, clean_interval_s=0)
        self.members: list[Peer] = []
        self.secret = b"what only the app's workers know"
        self.out_of_reach = False

    def peers(self, app: str) -> Sequence[Peer]:
        if self.out_of_reach:
            raise LogError("the coordinator cannot be reached")
        return self.members

    def shared_secret(self, app: str) -> bytes:  # type: ignore[override]
        if self.out_of_reach:
            raise LogError("the log cannot be reached")
        return self.secret


@dataclass
class Site:
    """A running front and clients of its ports."""

    worker: ScriptedWorker
    front: Front
    at: Listening
    log: TalkedAboutLog
    http: httpx.Client
    admin: httpx.Client

    @property
    def shown(self) -> dict[str, str]:
        """What another worker of the app shows at its private port."""
        return self.front.credential.headers(self.at.private_url)


@contextmanager
def running(worker: ScriptedWorker, place: Place = ALONE, data_dir: Path = DATA_DIR, **other: Any) -> Generator[Site]:
    """A front before this worker, with short limits, and `other` settings."""
    settings = replace(Settings(), port=0, admin_port=0, max_record_bytes=10_000, requests_waiting=4, data_dir=data_dir)
    settings = replace(settings, bootstrap_servers="is-never.asked:9092")  # else there were no peers
    settings = replace(settings, **{"http_hosts": ("x",), **other})
    log = TalkedAboutLog()
    at = Listening(settings, share_ports=False)
    front = Front(make_app(), settings, worker, log, at, TOKEN, drain_s=1, place=place)
    front.start()
    front.credential.load()
    with (
        httpx.Client(base_url=at.url, timeout=20, trust_env=False) as http,
        httpx.Client(base_url=at.admin_url, timeout=20, trust_env=False) as admin,
    ):
        yield Site(worker, front, at, log, http, admin)
    front.stop()
    log.close()


@pytest.fixture(scope="module")
def shared_site() -> Generator[Site]:
    with running(ScriptedWorker()) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    """One front for a module; its worker is as new for each test."""
    shared_site.worker.reset()
    return shared_site


@pytest.fixture
def open_site() -> Generator[Callable[[ScriptedWorker], Site]]:
    """As many fronts as a test wants."""
    with ExitStack() as stack:
        yield lambda worker: stack.enter_context(running(worker))


@pytest.fixture
def start() -> Generator[Callable[..., Site]]:
    """A front with the settings that a test wants."""
    with ExitStack() as stack:
        yield lambda **other: stack.enter_context(running(ScriptedWorker(), **other))


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s"
        time.sleep(0.01)
