"""Redrive: a dead letter as the record that it was. What a replay of a dead-letter topic delivers to the handler that had failed.

Stands between a replay, which reads the dead letters, and the machine, to which it is a record of its own topic, partition and
offset. `dead_letter` writes what is read here.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Message

REDRIVEN = "odradek-redriven"
"""The header that says how often a record has been sent back to where it failed. What fails again comes back with it."""
TOLD = frozenset(
    f"odradek-{name}"
    for name in (
        "error", "code", "app", "handler", "topic", "partition", "offset", "timestamp-ms", "attempts", "replay", "field",
        "metadata", "value-bytes", "key-bytes", "headers-bytes",
    )
)  # fmt: skip
"""What a dead letter says before the record's own headers."""


LEFT_OUT = frozenset({"odradek-value-bytes", "odradek-key-bytes", "odradek-headers-bytes"})
"""What a dead letter says of what it does not have."""


FAR = 2**62
"""No offset and no time comes this far."""


class NoRecord(Exception):
    """Why a dead letter cannot be sent back."""


class Redriven:
    """The record that a dead letter was made of, as a `Message`. Raises NoRecord when it does not say where it failed.

    Example: `Redriven(letter).target` is the `service/handler` that failed.
    """

    def __init__(self, letter: Message) -> None:
        headers = list(headers_of(letter))
        own = _own(headers)
        told = {name: (value or b"").decode("utf-8", "replace") for name, value in headers[:own]}
        self.target = told.get("odradek-handler", "")
        self.app = told.get("odradek-app", "")
        """Whose handler that is; empty: the letter does not say."""
        if not self.target:
            raise NoRecord("it names no handler: a command that was refused, which its sender has to mend")
        lost = [name for name, _ in headers if name in LEFT_OUT]
        if lost:
            raise NoRecord(f"it is not whole ({', '.join(lost)}): replay the record's own topic")
        try:
            self._place = told["odradek-topic"], int(told["odradek-partition"]), int(told["odradek-offset"])
            self._time_ms = int(told["odradek-timestamp-ms"])
        except (KeyError, ValueError) as error:
            raise NoRecord(f"its headers do not say what record it was: {error}") from None
        if not (0 <= self._place[1] < 2**31 and 0 <= self._place[2] < FAR and abs(self._time_ms) < FAR):
            raise NoRecord(f"its headers do not say what record it was: {self._place}, {self._time_ms} ms")
        self._letter = letter
        before = [value for name, value in headers[own:] if name == REDRIVEN]
        self._headers = [pair for pair in headers[own:] if pair[0] != REDRIVEN]
        self._headers.append((REDRIVEN, b"%d" % (_count(before[-1] if before else None) + 1)))

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]

    def key(self) -> bytes | None:
        return self._letter.key()

    def value(self) -> bytes | None:
        return self._letter.value()

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._time_ms


def _own(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Where the record's own headers begin: a dead letter of a dead letter says everything twice."""
    met = set[str]()
    for number, (name, _) in enumerate(headers):
        if name not in TOLD or name in met:
            return number
        met.add(name)
    return len(headers)


def _count(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) < 10 else 0
