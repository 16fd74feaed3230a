"""Kafka's verifier finds every record once and right behind odradek: its own four choreographies, then kills and storms.

Stands at the end of the journey: whatever the engine, the commit and the take-over do, these outputs are what others read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.eos.oracle import Verdict
from tests.eos.overlay import defective
from tests.eos.trial import ORIGINAL, Name, Outcome, Plan, Trial

Run = Callable[[Plan], Outcome]
CONSUMER = ("--group-protocol", "consumer")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs one trial, tells its story, and holds what every good one has in common."""
    with ExitStack() as stack:

        def carry_out(plan: Plan) -> Outcome:
            outcome = stack.enter_context(Trial(plan, tmp_path)).run()
            with capsys.disabled():
                print(f"\n{plan.name}: {outcome.drained.echo} of {outcome.produced}, {outcome.kills} kills, "
                      f"longest silence {outcome.silence_s:.1f} s, {outcome.total_s:.0f} s in all")  # fmt: skip
            print("\n".join(outcome.story))
            return outcome

        yield carry_out


def accepted(outcome: Outcome) -> bool:
    """Judged twice, and the second time all that was produced was there."""
    assert outcome.verdict.passed, outcome.verdict.error
    assert outcome.drained == Verdict(passed=True, echo=outcome.produced, error="")
    return True


@pytest.mark.faults
@pytest.mark.parametrize("name", ORIGINAL)
def test_the_original_choreographies(run: Run, name: Name) -> None:
    assert accepted(run(Plan(name)))


@pytest.mark.soak
@pytest.mark.parametrize("name", ORIGINAL)
def test_the_original_choreographies_under_the_consumer_protocol(run: Run, name: Name) -> None:
    assert accepted(run(Plan(name, flags=CONSUMER)))


@pytest.mark.soak
@pytest.mark.parametrize("children", [True, False], ids=["all-of-it", "producers-live-on"])
def test_eight_kills_at_triple_load(run: Run, *, children: bool) -> None:
    outcome = run(Plan("many", drivers=3, children=children))
    assert accepted(outcome)
    assert outcome.kills == 8


@pytest.mark.soak
@pytest.mark.parametrize("flags", [(), CONSUMER], ids=["classic", "consumer"])
@pytest.mark.parametrize(("seed", "children"), [(1, True), (2, False)])
def test_a_storm(run: Run, seed: int, *, children: bool, flags: tuple[str, ...]) -> None:
    outcome = run(Plan("storm", drivers=3, seconds=90, seed=seed, children=children, flags=flags))
    assert accepted(outcome)
    assert outcome.kills > 5


@pytest.mark.soak
def test_the_verifier_rejects_one_record_too_many(tmp_path: Path) -> None:
    with Trial(Plan("rebalance-simple"), tmp_path) as trial:
        assert accepted(trial.run())
        assert not trial.judge_a_double().passed


@pytest.mark.soak
def test_the_verifier_rejects_an_odradek_that_reads_a_record_again(tmp_path: Path) -> None:
    overlay = defective(Path(__file__).parent / "resume-one-back.patch", tmp_path / "defective")
    with Trial(Plan("storm", drivers=3, seconds=60, overlay=overlay), tmp_path) as trial:
        outcome = trial.run()
    assert not outcome.verdict.passed
