"""Requests: the load of `bench.waits.load`, in a process of its own, against a contender that serves; one plan at a time."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

import msgspec

from bench.contenders import ROOT
from bench.waits.figure import Figure, Scenario
from bench.waits.load import Answered, Plan
from bench.waits.site import Site, until

T = TypeVar("T")
PROCESS_TIMEOUT_S = 400.0


def measure_requests(site: Site, contender: str, scenario: Scenario, number: int, seconds: float, warm_up_s: float) -> Figure:
    """Run one scenario of requests against a contender.

    Raises:
        RuntimeError: an answer was wrong, or the contender or the load ended.
    """
    plan = Plan(
        site.port, scenario.path, scenario.connections, seconds, warm_up_s, scenario.body, scenario.expected
    )
    answered = beside(site, "bench.waits.load", plan, Answered)
    return Figure(
        contender, scenario.name, number, answered.requests, round(answered.per_s, 2),
        round(site.processor_s(answered.start_s, answered.end_s) / answered.requests * 1e6, 1), answered.p50_ms, answered.p99_ms,
    )  # fmt: skip


def beside(site: Site, module: str, plan: object, result: type[T]) -> T:
    """Run one of the benchmark's modules with a plan, in a process of its own, and watch the contender meanwhile.

    Raises:
        RuntimeError: the module said that something was wrong, or the contender has ended.
    """
    command: Sequence[str] = [sys.executable, "-m", module, json.dumps(asdict(plan))]  # type: ignore[call-overload]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=complaint, text=True)
        try:
            until(lambda: _noted(site) and process.poll() is not None, f"{module} to end", site, PROCESS_TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        said.seek(0)
        complaint.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{complaint.read()[-1500:].strip()}\n{site.said()}")
        return msgspec.json.decode(said.read(), type=result)


def _noted(site: Site) -> bool:
    site.check()
    return True
