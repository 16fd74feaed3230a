"""Runs trials and prints what Kafka's verifier said of each: `make eos`, `make eos ARGS="storm --seconds 90 --drivers 3"`.

python -m tests.eos                                 the original's four tests
python -m tests.eos many storm --drivers 3          harder ones
python -m tests.eos failure-complex --impl streams  Kafka Streams in odradek's place
python -m tests.eos storm --defect ends-before-settle   an odradek with that patch of tests/mutants: is the verifier sharp?
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from tests.eos.overlay import defective
from tests.eos.processors import ROOT
from tests.eos.trial import ORIGINAL, Name, Outcome, Plan, Trial


def main() -> int:
    """Run what is asked for; 1 if the verifier rejects any of it."""
    options = _options()
    plan = Plan(
        ORIGINAL[0], options.impl, options.drivers, options.seconds, options.seed, options.kill == "group", tuple(options.flag)
    )
    console, rejected = Console(), 0
    table = Table(title="Kafka's StreamsEosTest around " + options.impl)
    for column in ("trial", "verdict", "records", "kills", "longest silence, s", "took, s"):
        table.add_column(column, justify="left" if column in ("trial", "verdict") else "right")
    with tempfile.TemporaryDirectory(prefix="odradek-eos-", ignore_cleanup_errors=True) as directory:
        if options.defect:
            patch = ROOT / "tests" / "mutants" / f"{options.defect}.patch"
            plan = replace(plan, overlay=defective(patch, Path(directory) / "defective"))
        for number, name in enumerate(options.trials or ORIGINAL):
            folder = Path(options.keep or directory) / f"{number}-{name}"
            folder.mkdir(parents=True)
            with Trial(replace(plan, name=name), folder) as trial:
                outcome = trial.run()
            rejected += not _passed(outcome)
            console.print("\n".join([f"{name}:", *outcome.story]), markup=False, highlight=False)
            table.add_row(name, *_cells(outcome))
    console.print(table)
    return int(rejected > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.eos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trials", nargs="*", choices=get_args(Name), metavar="TRIAL", help=", ".join(get_args(Name)))
    parser.add_argument("--impl", choices=("odradek", "streams"), default="odradek")
    parser.add_argument("--kill", choices=("group", "worker"), default="group", help="producers' processes too, or left alone")
    parser.add_argument("--drivers", type=int, default=1, help="of StreamsEosTest, about 200 records/s each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a storm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flag", action="append", default=[], help="one more word for `odradek run`")
    parser.add_argument("--defect", help="a patch of tests/mutants for odradek")
    parser.add_argument("--keep", help="a folder for brokers' data and everybody's words")
    return parser.parse_args()


def _passed(outcome: Outcome) -> bool:
    return outcome.verdict.passed and outcome.drained.passed and outcome.drained.echo == outcome.produced


def _cells(outcome: Outcome) -> list[str]:
    error = outcome.verdict.error or outcome.drained.error or f"{outcome.drained.echo} of {outcome.produced}"
    verdict = "[green]all delivered, once[/]" if _passed(outcome) else f"[red]rejected[/]: {error}"
    return [verdict, f"{outcome.produced:,}", str(outcome.kills), f"{outcome.silence_s:.1f}", f"{outcome.total_s:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
