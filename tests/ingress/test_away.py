"""Kafka goes away while requests wait, and comes back: nobody waits for ever, and what was accepted has its result."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import httpx
import pytest

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.node.node import Node
from tests.ingress.conftest import until
from tests.ingress.test_two_nodes import make_bank

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ClusterFactory

pytestmark = pytest.mark.faults
TOLD_S = 10.0
"""The promise: nobody waits longer than this, from the broker's last answer on, to hear that Kafka is away."""


@pytest.mark.parametrize("how", ["frozen", "gone"])
def test_while_kafka_is_away_everybody_is_told(
    kafka_cluster: ClusterFactory, tmp_path: Path, how: Literal["frozen", "gone"]
) -> None:
    cluster = kafka_cluster()
    settings = replace(Settings(), bootstrap_servers=cluster.bootstrap_servers, port=0, admin_port=0, data_dir=tmp_path)
    node = Node(make_bank(f"away-{how}"), settings)
    node.start()
    try:
        with httpx.Client(trust_env=False, timeout=90) as http, ThreadPoolExecutor(2) as clients:
            until(lambda: http.get(node.admin_url + "/ready").status_code == 200)
            nap = {"idempotency-key": "nap"}
            accepted = clients.submit(http.post, f"{node.url}/account/bob/later", json=20.0, headers=nap)
            until(lambda: http.get(f"{node.url}/account/bob/later/output", headers=nap).status_code == 202)
            (broker,) = cluster.pids
            began = time.monotonic()
            if how == "frozen":
                cluster.suspend(broker)
            else:
                cluster.kill(broker)
            new = clients.submit(http.post, f"{node.url}/account/eve/deposit", json=1)
            told = {name: call.result() for name, call in (("accepted", accepted), ("new", new))}
            waited_s = time.monotonic() - began
            ready = http.get(node.admin_url + "/ready")
            gauge = "odradek_log_reachable 0.0" in http.get(node.admin_url + "/metrics").text
            if how == "frozen":
                cluster.resume(broker)
            else:
                cluster.restart(broker)
            assert [reply.status_code for reply in told.values()] == [503, 503]
            assert told["accepted"].json()["metadata"]["exists"] == "yes"
            assert told["new"].json()["metadata"].get("exists") in (None, "unknown")
            assert waited_s < TOLD_S
            assert (ready.status_code, gauge) == (503, True)
            assert "Kafka" in ready.json()["message"]
            until(lambda: http.get(node.admin_url + "/ready").status_code == 200)
            assert http.get(node.url + told["accepted"].json()["metadata"]["attach"]).json() == "slept"
            assert http.post(f"{node.url}/account/zoe/deposit", json=1).json() == 1
    finally:
        node.stop()
