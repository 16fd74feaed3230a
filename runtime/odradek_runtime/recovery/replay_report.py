"""The report of replays: what the journals of all shards say of them, summed up for people and for `odradek replays`.

Stands between the rows that shards show (`Shard.replay_rows`) and the admin API. Pure: rows in, reports out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from odradek_runtime.core.records.formats import REPLAY, REPLAY_TALLY, Replay, ReplayTally

Status = Literal["running", "ending", "done", "cancelled", "broken"]


class PartReport(msgspec.Struct):
    """One partition's part. `records`: delivered; `passed`: over, by their keys; `gone`: offsets that had been deleted before.

    `empty`: other offsets without a record: compacted away, aborted, or marks of transactions.
    """

    partition: int
    first: int
    next: int
    stop: int
    status: str
    reason: str
    records: int
    passed: int
    gone: int
    empty: int = 0


class ReplayReport(msgspec.Struct):
    """One replay. Its invocations: `started`, and of these `ended_well`, `dead_letters`, `left_out`; the rest is under way.

    `status` is "running" while records are delivered, "ending" while what they started has not all ended.
    """

    id: str
    topic: str
    handler: str
    keys: list[bytes]
    rate: float
    asked_by: str
    begun_ms: int
    ended_ms: int
    status: Status = "running"
    parts_due: int = 0
    """How many parts there are; those that have not begun are not among `parts`."""
    parts: list[PartReport] = []
    started: int = 0
    ended_well: int = 0
    dead_letters: int = 0
    left_out: int = 0

    @property
    def records(self) -> int:
        """Records delivered so far."""
        return sum(part.records for part in self.parts)

    @property
    def over(self) -> bool:
        """Nothing of it will change any more."""
        return self.status not in ("running", "ending")

    @property
    def under_way(self) -> int:
        """Invocations that have not ended."""
        return self.started - self.ended_well - self.dead_letters - self.left_out

    @property
    def offsets(self) -> tuple[int, int]:
        """(done, all) offsets of the range."""
        return sum(part.next - part.first for part in self.parts), sum(part.stop - part.first for part in self.parts)


def summed_up(report: ReplayReport) -> list[str]:
    """What has come of it, in words that add up.

    >>> summed_up(ReplayReport("fix-7", "orders", "", [], 0.0, "ann@laptop", 0, 0, started=1, dead_letters=1))
    ['0 records', '0 ended well', '1 dead letter']
    """
    told = [
        f"{report.records:,} record{'' if report.records == 1 else 's'}",
        f"{report.ended_well:,} ended well",
        f"{report.dead_letters:,} dead letter{'' if report.dead_letters == 1 else 's'}",
    ]
    if report.left_out:
        told.append(f"{report.left_out:,} left out")
    if gone := sum(part.gone for part in report.parts):
        told.append(f"{gone:,} offset{'' if gone == 1 else 's'} had been deleted")
    if empty := sum(part.empty for part in report.parts):
        told.append(f"{empty:,} offset{'' if empty == 1 else 's'} without a record")
    return told


def reports(rows: Iterable[tuple[bytes, bytes]]) -> list[ReplayReport]:
    """Of all replays that the rows tell of, the latest first.

    >>> part = Replay("fix-7", "orders", 2, first=0, next=90, stop=90, status="done", records=90)
    >>> tally = ReplayTally("fix-7", started=90, ended_well=88, dead_letters=2)
    >>> (report,) = reports([(b"r", REPLAY.encode(part)), (b"u", REPLAY_TALLY.encode(tally))])
    >>> report.status, report.records, report.under_way
    ('done', 90, 0)
    """
    found: dict[str, ReplayReport] = {}
    tallies: list[ReplayTally] = []
    ordered: dict[str, list[bytes]] = {}
    for key, value in rows:
        if key[:1] == b"r":
            _add(found, REPLAY.decode(value))
        elif key[:1] == b"k":
            order = REPLAY.decode(value)
            ordered[order.id] = order.keys
        else:
            tallies.append(REPLAY_TALLY.decode(value))
    for tally in tallies:
        report = found.get(tally.id)
        if report is not None:
            report.started += tally.started
            report.ended_well += tally.ended_well
            report.dead_letters += tally.dead_letters
            report.left_out += tally.left_out
    for report in found.values():
        report.keys = report.keys or ordered.get(report.id, [])
        report.parts.sort(key=lambda part: part.partition)
        report.status = _status(report)
    return sorted(found.values(), key=lambda report: report.begun_ms, reverse=True)


def _add(found: dict[str, ReplayReport], part: Replay) -> None:
    report = found.setdefault(
        part.id,
        ReplayReport(part.id, part.topic, part.handler, part.keys, 0.0, part.asked_by, part.begun_ms, 0, parts=[]),
    )
    report.rate += part.rate
    report.parts_due = max(report.parts_due, part.parts)
    report.begun_ms = min(report.begun_ms, part.begun_ms)
    report.ended_ms = max(report.ended_ms, part.ended_ms)
    report.parts.append(
        PartReport(
            part.partition, part.first, part.next, part.stop, part.status, part.reason, part.records, part.passed, part.gone,
            empty=part.next - part.first - part.records - part.passed - part.gone,
        )
    )  # fmt: skip


def _status(report: ReplayReport) -> Status:
    statuses = {part.status for part in report.parts}
    if "running" in statuses or len(report.parts) < report.parts_due:
        return "running"
    if report.under_way > 0:
        return "ending"
    if "broken" in statuses:
        return "broken"
    return "cancelled" if "cancelled" in statuses else "done"
