"""Spans of time, as command lines name them (`90s`, `2h`) and as tables show them (`3 min`)."""

from __future__ import annotations

import re

from odradek_runtime.cli.errors import USAGE, CommandError

_FORM = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def span_s(flag: str, text: str | None) -> float:
    """In seconds; 0 where nothing was given. Raises CommandError.

    >>> span_s("--older", "90s"), span_s("--older", "2h"), span_s("--older", None)
    (90.0, 7200.0, 0.0)
    """
    if text is None:
        return 0.0
    found = _FORM.fullmatch(text)
    if found is None:
        raise CommandError(f"{flag} {text!r} is no span of time", f"e.g. {flag} 90s, {flag} 30m, {flag} 2h, {flag} 3d", code=USAGE)
    return float(found[1]) * _UNITS_S[found[2]]


def span(seconds: float) -> str:
    """As people read it, in one unit.

    >>> span(0.25), span(59), span(150), span(7_300), span(200_000)
    ('0 s', '59 s', '2 min', '2 h', '2 d')
    """
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{int(max(seconds, 0))} s"
