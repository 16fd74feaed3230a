"""Whatever stands in the commands topic, the engine lives, other keys go on, and honest work ends once with the right result."""

import logging
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from odradek_runtime.log.embedded import EmbeddedLog
from tests.invariants.hostile import hostile, open_stage

SOAK_S = 60.0
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
PHASES = (Phase.explicit, Phase.generate)
"""What fails waits until its patience ends: to make it shorter takes many times that."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the engine logs of thousands of commands is not kept."""
    logging.getLogger("odradek").disabled = True
    yield
    logging.getLogger("odradek").disabled = False


def stand(data: st.DataObject) -> None:
    """A log, an app with work under way, hostile commands, and the end of the work."""
    log = EmbeddedLog(None, fsync=False, clean_interval_s=0)
    here = open_stage(log)
    try:
        for raw, partition in data.draw(st.lists(hostile(here.ids), min_size=1, max_size=12)):
            here.throw(raw, partition)
        here.settle()
        here.judge()
        for letter in here.letters():
            assert letter["odradek-error"], letter
    finally:
        here.stage.close()
        log.close()


@settings(max_examples=100, derandomize=True, deadline=None, phases=PHASES, suppress_health_check=SLOW)
@given(data=st.data())
def test_hostile_commands_harm_nobody(data: st.DataObject) -> None:
    stand(data)


@pytest.mark.soak
def test_hostile_commands_harm_nobody_for_a_minute() -> None:
    until_s = time.monotonic() + SOAK_S

    @settings(max_examples=200, deadline=None, database=None, phases=PHASES, suppress_health_check=SLOW)
    @given(st.data())
    def more(data: st.DataObject) -> None:
        stand(data)

    while time.monotonic() < until_s:
        more()
