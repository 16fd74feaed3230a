"""Jobs: what an operator has asked of one shard, how far it has come, what was found: what admin API and commands show of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["verify", "rebuild"]
Stage = Literal["copying", "restoring", "comparing"]
Status = Literal["waiting", "copying", "restoring", "comparing", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A key under which store and log do not hold the same; None: nothing is there."""

    kind: str
    key: str
    store_bytes: int | None
    log_bytes: int | None


@dataclass(slots=True)
class Findings:
    """What a verification has found. `records`: offsets of the changelogs that were read; `keys`: those compared."""

    journal_offset: int
    state_offset: int
    records: int = 0
    keys: int = 0
    differences: int = 0
    shown: list[Difference] = field(default_factory=list[Difference])
    written_since: int = 0
    """Keys that differ and have been written again meanwhile: they are nobody's fault, and left out."""
    unknown: int = 0
    """Keys of a kind that only another version of odradek knows: left out."""
    foreign: dict[str, int] = field(default_factory=dict[str, int])
    """By changelog: records in it that are not the app's own, which no restore takes."""
    seconds: float = 0.0


@dataclass(slots=True)
class Job:
    """What somebody has asked for one shard. Written by the thread that does it, read by whoever asks.

    `ended`: it has been done, and of a verification there are findings; `failed`: it has not, and `reason` says why.
    """

    id: str
    kind: Kind
    shard: int
    asked_by: str
    status: Status = "waiting"
    done_records: int = 0
    total_records: int = 0
    reason: str = ""
    findings: Findings | None = None

    @property
    def over(self) -> bool:
        return self.status in ("ended", "failed")
