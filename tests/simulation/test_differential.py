"""The simulated log and a real broker do the same, whatever is asked of them (`differential`)."""

from collections.abc import Iterator

import pytest

from odradek_runtime.log.kafka import KafkaLog

from .differential import Comparison, Real, Simulated
from .live import SimulatedHarness

STEPS = 12


@pytest.fixture
def simulation() -> Iterator[SimulatedHarness]:
    harness = SimulatedHarness()
    yield harness
    harness.close()


def compare(seed: int, kafka: str, simulation: SimulatedHarness, app: str) -> None:
    log = KafkaLog(kafka)
    simulated, real = Simulated(simulation, app), Real(log, kafka, app)
    try:
        Comparison(seed, app, simulated, real).run(STEPS)
    finally:
        simulated.station.leave()
        real.station.leave()
        log.close()


@pytest.mark.parametrize("seed", range(3))
def test_both_logs_do_the_same(seed: int, kafka: str, simulation: SimulatedHarness, topic_prefix: str) -> None:
    compare(seed, kafka, simulation, topic_prefix)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
def test_both_logs_do_the_same_in_many_sequences(
    seed: int, kafka: str, simulation: SimulatedHarness, topic_prefix: str
) -> None:
    compare(seed, kafka, simulation, topic_prefix)
