"""The `?delay=` of a one-way request: `30s`, `1500ms`, `5m`, `2h`, `1d`, plain seconds, or an ISO 8601 duration."""

from __future__ import annotations

import re

from odradek_runtime.http.ingress.errors import bad_field

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_SIMPLE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", re.ASCII)
_ISO = re.compile(r"P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII | re.IGNORECASE)
_ISO_SECONDS = (604800.0, 86400.0, 3600.0, 60.0, 1.0)
LONGEST_S = 100 * 365 * 86400.0
"""A delay beyond a century is a mistake in its unit."""


def delay_s(text: str) -> float:
    """The delay in seconds. Raises HttpError 400 naming `delay`.

    >>> delay_s("1500ms"), delay_s("2h"), delay_s("7"), delay_s("PT1M30S")
    (1.5, 7200.0, 7.0, 90.0)
    """
    if simple := _SIMPLE.fullmatch(text.strip()):
        seconds = float(simple[1]) * _SECONDS[simple[2]]
    elif iso := _ISO.fullmatch(text.strip()):
        seconds = sum(float(part) * unit for part, unit in zip(iso.groups(), _ISO_SECONDS, strict=True) if part)
    else:
        raise bad_field("delay", f"{text!r} is not a duration; write 30s, 1500ms, 5m, 2h, 1d, seconds, or PT30S")
    if seconds > LONGEST_S:
        raise bad_field("delay", f"{text!r} is longer than a hundred years")
    return seconds
