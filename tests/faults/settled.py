"""The end of a fault test: wait until everything has come out, send the workers home, and let the auditor look."""

from __future__ import annotations

from collections.abc import Sequence

from odradek_runtime.log.port import LogError
from tests.faults.truth import Departure, Names, audit
from tests.faults.workers import Place, Worker, count, until


def come_out(here: Place, names: Names, number: int, timeout_s: float = 180.0) -> None:
    """Wait until there are so many outputs and dead letters."""

    def complete() -> bool:
        try:
            log = here.beside()
        except LogError:
            return False
        try:
            return count(log, names.output) + count(log, f"{names.app}.dead-letters") >= number
        except LogError:
            return False
        finally:
            log.close()

    until(complete, "every departure's outcome", timeout_s, every_s=0.3)


def settled(
    here: Place,
    workers: Sequence[Worker],
    names: Names,
    rows: Sequence[Departure],
    timeout_s: float = 180.0,
    *,
    again: Sequence[Departure] = (),
) -> None:
    """Fails with the story of the place unless the log is exactly what the rows, and those replayed `again`, say."""
    come_out(here, names, len(rows) + len(again), timeout_s)
    for worker in workers:
        if worker.running:
            worker.stop()
    log = here.open()
    try:
        said = audit(log, names, rows, again)
    finally:
        log.close()
    assert not said, "\n".join(said)
