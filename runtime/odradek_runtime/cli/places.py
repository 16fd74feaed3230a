"""Places in a topic, as command lines name them: an offset, earliest, latest, a time, or how long ago."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from odradek_runtime.cli.errors import USAGE, CommandError
from odradek_runtime.log.port import Log, Partition

FORMS = "OFFSET|TIME|earliest|latest"
_AGO = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def moves(text: str) -> bool:
    """Whether a place is another one later: the same command would then mean another range.

    >>> moves("latest"), moves("2h"), moves("1200"), moves("2026-11-27T14:30")
    (True, True, False, False)
    """
    return text in ("earliest", "latest") or _AGO.fullmatch(text) is not None


def place(flag: str, text: str, now: datetime | None = None) -> Callable[[Log, Partition], int]:
    """What finds the offset in each partition. Raises CommandError when the text is no place.

    A time without a zone is this machine's. `2h` is two hours ago. What is found raises it for an offset that is not there yet:
    that is a slip of the hand, which would skip all that has not been read.

    >>> from odradek_runtime.log.embedded import EmbeddedLog
    >>> log = EmbeddedLog(None)
    >>> _ = log.create_topic("orders", 1, {})
    >>> place("--from", "earliest")(log, Partition("orders", 0)), place("--from", "0")(log, Partition("orders", 0))
    (0, 0)
    >>> log.close()
    """
    if text == "earliest":
        return lambda log, partition: log.offsets(partition)[0]
    if text == "latest":
        return lambda log, partition: log.offsets(partition)[1]
    if text.isascii() and text.isdigit() and len(text) < 19:
        return lambda log, partition: _there(flag, int(text), log, partition)
    time_ms = _time_ms(text, now or datetime.now(UTC))
    if time_ms is None:
        raise CommandError(
            f"{flag} {text!r} is no offset, no time, and neither earliest nor latest",
            f"e.g. {flag} 1200, {flag} 2h (two hours ago), {flag} 2026-11-27T14:30, {flag} earliest",
            code=USAGE,
        )
    return lambda log, partition: log.offset_at(partition, time_ms)


def _there(flag: str, offset: int, log: Log, partition: Partition) -> int:
    end = log.offsets(partition)[1]
    if offset > end:
        raise CommandError(
            f"{flag} {offset}: {partition.topic}[{partition.partition}] ends at offset {end}",
            "name an offset up to there, one partition with --partition, or latest",
            code=USAGE,
        )
    return offset


def _time_ms(text: str, now: datetime) -> int | None:
    """Unix milliseconds; None when it is no time.

    >>> _time_ms("90s", datetime(2026, 11, 28, tzinfo=UTC)) == datetime(2026, 11, 27, 23, 58, 30, tzinfo=UTC).timestamp() * 1000
    True
    """
    ago = _AGO.fullmatch(text)
    try:
        at = now - timedelta(seconds=float(ago[1]) * _UNITS_S[ago[2]]) if ago else datetime.fromisoformat(text)
        return max(int(at.timestamp() * 1000), 0)
    except (ValueError, OverflowError, OSError):
        return None
