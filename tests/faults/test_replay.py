"""A replay under SIGKILL, thirty times: exactly the records of its range once more, in order, and it says what became of them."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from odradek_runtime.log.port import Log, Partition
from odradek_runtime.store.data_folder import WORKER_FILE
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.settled import come_out, settled
from tests.faults.truth import Departure, Names
from tests.faults.workers import Gauge, Worker, until

pytestmark = pytest.mark.faults

KILLS = 30
FLIGHTS = 40_000
RATE = 3_000
"""Slow enough to be killed on its way."""


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_the_second_half_again_under_thirty_kills(where: str, place: MakePlace, year: list[Departure]) -> None:
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 10**6)
    chance = random.Random(seed)
    here = place(where, {"ODRADEK_EPOCH_EVENTS": "25"})
    here.note(f"seed {seed}: FAULTS_SEED={seed} repeats the choices")
    names, rows = Names.of(here.app), year[:FLIGHTS]
    second = rows[FLIGHTS // 2 :]
    worker = here.worker("w", *(["--session-timeout", "1"] if where == "kafka" else []))
    log = here.open()
    feed.create(log, names, PARTITIONS)
    feed.publish(log, names.input, rows[: FLIGHTS // 2])
    middle = _ends(log, names.input)
    feed.publish(log, names.input, rows)
    ends = _ends(log, names.input)
    log.close()
    worker.start()
    come_out(here, names, len(rows))
    order = {
        "id": "second-half",
        "topic": names.input,
        "parts": [{"partition": n, "first": middle[n], "stop": ends[n]} for n in range(PARTITIONS)],
        "rate": RATE,
    }
    assert ask(worker, "POST", "/replays", order)["new"]
    assert not ask(worker, "POST", "/replays", order)["new"], "the same order again does nothing"
    began = time.monotonic()
    gauge = Gauge(here, [names.output, f"{names.app}.dead-letters"])
    for kill in range(1, KILLS + 1):
        before = gauge.read()
        wanted = before + chance.uniform(0.0, 1.0) * len(second) / (KILLS + 1)
        until(lambda wanted=wanted: gauge.read() > wanted, f"progress to {wanted:,.0f} before kill {kill}", every_s=0.001)
        worker.kill()
        here.note(f"kill {kill} at about {gauge.last:,}")
        gauge.close()
        worker.start()
    worker.wait_ready()
    seen = report(worker)
    assert seen["status"] == "running", "it was through before the last kill: that proves little"
    until(lambda: report(worker)["status"] == "done", "the end of the replay", every_s=0.2)
    told = report(worker)
    took_s = time.monotonic() - began
    print(f"{where}: {KILLS} kills survived in {took_s:.0f} s by a replay of {len(second):,} records, seed {seed}")
    settled(here, [worker], names, rows, again=second)
    lost = sum(1 for row in second if not row.tail)
    counts = {name: told[name] for name in ("started", "ended_well", "dead_letters", "left_out")}
    assert counts == {"started": len(second), "ended_well": len(second) - lost, "dead_letters": lost, "left_out": 0}


def _ends(log: Log, topic: str) -> list[int]:
    return [log.offsets(Partition(topic, number))[1] for number in range(PARTITIONS)]


def report(worker: Worker) -> dict[str, Any]:
    """What the app says of the replay; all shards have to be there."""
    told: list[dict[str, Any]] = []

    def whole() -> bool:
        answer = ask(worker, "GET", "/replays")
        told[:] = answer["replays"]
        return not answer["unknown_shards"] and bool(told)

    until(whole, "all shards to say what they know", every_s=0.1)
    return told[0]


def ask(worker: Worker, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    answers: list[httpx.Response] = []

    def answered() -> bool:
        try:
            found = json.loads((worker.data_dir / WORKER_FILE).read_text())
            headers = {"authorization": f"Bearer {found['token']}"}
            url = found["admin_url"] + path
            answers.append(httpx.request(method, url, json=body, headers=headers, timeout=30.0, trust_env=False))
        except (OSError, ValueError, httpx.TransportError):
            return False
        return answers[-1].status_code != 503

    until(answered, f"an answer to {method} {path}", every_s=0.1)
    assert answers[-1].is_success, answers[-1].text
    return dict(answers[-1].json())
