"""Records in flight: `bench.waits.in_flight`, in a process of its own, around a contender that runs a step for each record."""

from bench.contenders import Run
from bench.waits.exchange import Place, Plan
from bench.waits.figure import Figure, Scenario
from bench.waits.in_flight import Phase, Seen
from bench.waits.requests import beside
from bench.waits.site import Contender, Site

STARTING_S = 2.0
"""More warm-up for the first scenario: the contender has just started."""


def measure_in_flight(
    site: Site, run: Run, contender: Contender, scenarios: list[Scenario], number: int, seconds: float, warm_up_s: float
) -> list[Figure]:
    """One scenario after another.

    Raises:
        RuntimeError: outputs were missing or wrong, or the contender ended.
    """
    phases = [
        Phase(each.in_flight, each.keys, each.step_s, seconds, warm_up_s + STARTING_S * (each is scenarios[0]))
        for each in scenarios
    ]
    place = Place(run.bootstrap_servers, run.input, run.output, contender.counted)
    seen = beside(site, "bench.waits.in_flight", Plan(place, phases), list[Seen])
    return [
        Figure(
            contender.name, scenario.name, number, each.records, round(each.per_s, 1),
            round(site.processor_s(each.start_s, each.end_s) / each.records * 1e6, 1), each.p50_ms, each.p99_ms,
        )
        for scenario, each in zip(scenarios, seen, strict=True)
    ]  # fmt: skip
