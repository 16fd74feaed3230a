"""A worker on a disk that fills up: it says so, refuses nothing that it has accepted, and goes on by itself when there is room."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until

LEAKY = (
    """
import os, pathlib

class Full:
    f_bavail = f_frsize = 1

measured = os.statvfs
os.statvfs = lambda path: Full if pathlib.Path("full").exists() else measured(path)
"""
    + SHOP
)
"""The log asks the system for room, and this is its answer as long as there is a file `full`."""


def refused(worker: dict[str, str]) -> int:
    lines = httpx.get(worker["admin_url"] + "/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("odradek_epochs_refused_total ")).split()[1]))


def test_it_goes_on_when_there_is_room_and_nothing_is_lost(run: Run, folder: Path) -> None:
    (folder / "shop.py").write_text(LEAKY)
    full = folder / "full"
    with Serving("run", "shop:app") as serving, ThreadPoolExecutor(20) as clients:
        worker = serving.worker()
        assert run("call", "customer/bob/pay", "5").stdout == "5\n"
        full.touch()
        began = time.monotonic()
        answers = [clients.submit(httpx.post, f"{worker['url']}/customer/bob/pay", content="1", timeout=60) for _ in range(20)]
        serving.hears("free some space, it goes on by itself")
        until(lambda: refused(worker) >= 3, "three refusals")
        # Each costs a start over: a full disk must not be waited for by starting over as fast as it goes.
        assert refused(worker) <= time.monotonic() - began + 1
        assert "free some space" in run("publish", "orders", "-", stdin='{"customer": "zoe", "cents": 1}', ok=False).stderr
        full.unlink()
        assert sorted(answer.result().json() for answer in answers) == list(range(6, 26))
        full.touch()
        waiting = clients.submit(httpx.post, f"{worker['url']}/customer/bob/pay", content="1", timeout=60)
        until(lambda: refused(worker) >= 4, "a refusal")
        until(lambda: "the log has taken nothing for" in httpx.get(worker["admin_url"] + "/ready").text, "the reason at /ready")
        assert serving.stop() == 0
        assert waiting.exception() is not None or waiting.result().status_code == 503
    assert "killed" not in serving.said
    with Serving("run", "shop:app") as serving:
        serving.hears("waiting for the log, again in 1 s: the disk of .odradek/log has 0 MiB left")
        full.unlink()
        serving.worker()
        assert run("call", "customer/bob/total").stdout == "25\n"
    assert "Traceback" not in serving.said
