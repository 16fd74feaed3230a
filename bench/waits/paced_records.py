"""Paced records: `bench.waits.paced`, in a process of its own, around a contender that counts; the rates one after another."""

from bench.contenders import Run
from bench.waits.exchange import Place, Plan
from bench.waits.figure import Figure, Scenario
from bench.waits.paced import Phase, Seen
from bench.waits.requests import beside
from bench.waits.site import Site


def measure_paced(site: Site, run: Run, contender: str, scenarios: list[Scenario], number: int, seconds: float) -> list[Figure]:
    """The quickest rate first, and as long again before it, so that what compiles itself while it runs has done so.

    Raises:
        RuntimeError: outputs were missing or wrong, or the contender ended.
    """
    ordered = sorted(scenarios, key=lambda scenario: -scenario.per_s)
    warming = Phase(ordered[0].per_s, seconds, 0)
    phases = [Phase(scenario.per_s, seconds, seconds / 3) for scenario in ordered]
    plan = Plan(Place(run.bootstrap_servers, run.input, run.output), [warming, *phases])
    _, *seen = beside(site, "bench.waits.paced", plan, list[Seen])
    return [
        Figure(
            contender, scenario.name, number, each.records, each.sent_per_s,
            round(site.processor_s(each.start_s, each.end_s) / each.records * 1e6, 1), each.p50_ms, each.p99_ms,
        )
        for scenario, each in zip(ordered, seen, strict=True)
    ]  # fmt: skip
