"""A handler suspended on a long step or sleep holds its own key and nothing else: not its partition, not the offset."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, LogError, Output, Partition
from tests.faults import feed
from tests.faults.conftest import MakePlace
from tests.faults.truth import Names
from tests.faults.workers import Place, until
from tests.records import committed

pytestmark = pytest.mark.faults

OTHERS = 5_000
KEYS = 50


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_a_suspended_handler_holds_only_its_key(where: str, place: MakePlace) -> None:
    here = place(where, {"FAULTS_GATE": "", "ODRADEK_EPOCH_EVENTS": "200"})
    here.env["FAULTS_GATE"] = str(here.folder / "gate")
    here.env["FAULTS_SLEEP_S"] = "20"
    topic = Names.of(here.app).app + "-errands"
    log = here.open()
    feed.create(log, Names.of(here.app), 1)  # one partition: all keys behind each other
    _publish(log, topic, [("slow step", "step"), ("slow sleep", "sleep"), ("slow step", "count"), ("slow sleep", "count")], 0)
    _publish(log, topic, [(f"key {number % KEYS}", "count") for number in range(OTHERS)], 4)
    log.close()

    worker = here.worker("w").start()
    took_s = until(lambda: sum(map(len, _beside(here).values())) >= OTHERS, "the other keys' records", every_s=0.2)
    here.note(f"{OTHERS} records of other keys in {took_s:.1f} s, start included")
    worker.kill()
    log = here.open()
    found = _done(log, here)
    assert "slow step" not in found, "nothing may pass the closed gate"
    found.pop("slow sleep", None)  # its twenty seconds may be over
    assert found == {f"key {key}": [f"count {n + 1}" for n in range(OTHERS // KEYS)] for key in range(KEYS)}
    until(lambda: _committed(log, here.app, Partition(topic, 0)) >= 4 + OTHERS, "the committed offset past the suspended records")
    log.close()

    # Killed, started again, and let through: the step and the sleep end, and what waited behind them runs, in order.
    (here.folder / "gate").write_text("open")
    worker.start()
    wanted = {"slow step": ["open 1", "count 2"], "slow sleep": ["sleep 1", "count 2"]}
    until(lambda: {k: v for k, v in _beside(here).items() if k in wanted} == wanted, "what was suspended", every_s=0.5)
    worker.stop()


def _publish(log: Log, topic: str, errands: list[tuple[str, str]], start: int) -> None:
    publisher = log.publisher("errands")
    for first in range(0, len(errands), feed.BATCH):
        batch = errands[first : first + feed.BATCH]
        outputs = [Output(topic, 0, key.encode(), json.dumps({"kind": kind}).encode()) for key, kind in batch]
        publisher.publish(outputs, start + first + len(batch))
    publisher.close()


def _done(log: Log, here: Place) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for message in committed(log, f"{here.app}-done"):
        found[(message.key() or b"").decode()].append((message.value() or b"").decode())
    return dict(found)


def _beside(here: Place) -> dict[str, list[str]]:
    """What is done, asked while a worker runs or is about to."""
    try:
        log = here.beside()
    except LogError:
        return {}
    try:
        return _done(log, here)
    except LogError:
        return {}
    finally:
        log.close()


def _committed(log: Log, app: str, partition: Partition) -> int:
    """The group's own offset, as a lag tool would see it."""
    if isinstance(log, EmbeddedLog):
        return log.committed(app, partition) or 0
    assert isinstance(log, KafkaLog)
    found = log._cluster.committed(app, [partition], stable=True)  # the port has no word for it
    return found[partition].offset if partition in found else 0
