"""Input records of any bytes on the embedded log: each is handled or becomes a dead letter, and the worker goes on."""

import pytest

from odradek_runtime.log.port import Output
from tests.engine.harness import Rig
from tests.hostile_records import HOW, everything, handling, hostile_records

NUMBER = 150


@pytest.mark.parametrize("seed", range(3))
def test_records_of_any_bytes_end_no_worker_and_are_lost_to_nobody(disk_rig: Rig, seed: int) -> None:
    rig, app = disk_rig, handling("hostile")
    for how in HOW:
        rig.log.create_topic(f"hostile-{how}", 2, {"retention.ms": "-1"})
    rig.log.create_topic("hostile-seen", 1, {})
    rig.start(app)
    for run in (1, 2):
        publisher = rig.log.publisher("stranger")
        for how in HOW:
            outputs = [
                Output(
                    f"hostile-{how}", None, each.key, each.value,
                    [(name.decode("latin-1"), value) for name, value in each.headers], each.timestamp_ms,
                )
                for each in hostile_records(10 * seed + run, NUMBER)
            ]  # fmt: skip
            publisher.publish(outputs, publisher.position() + 1)
        publisher.close()
        rig.until(lambda run=run: everything(rig.log, "hostile", run * NUMBER))
        rig.restart(app, crash=run == 1)
