"""Headers that no handler is given, since all that it is given is written into a log that others read: credentials above all.

Names and patterns (`*` stands for any characters) of credentials as clients, proxies and clouds send them; the setting
`headers_withheld` adds to them, and takes one out with `!` before it. Asked for each header of each request at the public port.
"""

from __future__ import annotations

import re

NEVER = ("authorization", "proxy-authorization", "cookie")
"""These are no handler's, whatever the setting says."""
CREDENTIALS = (
    *("*authorization", "*cookie*", "*api-key", "*apikey", "*token", "*secret*", "*password*", "*passwd*", "*credential*"),
    *("*api_key", "*auth-key", "*access-key", "*functions-key", "*subscription-key"),
    *("*jwt*", "*session-id", "*sessionid", "x-ms-token-*", "x-amzn-oidc-*"),
)
_NAME = re.compile(r"!?[a-z0-9#$%&'*+.^_`|~-][a-z0-9!#$%&'*+.^_`|~-]*")


class Withheld:
    """Which headers are withheld. Raises ValueError for what names no header.

    >>> withheld = Withheld("x-tenant-*, !x-page-token")
    >>> [withheld(name) for name in ("x-api-key", "x-tenant-id", "x-page-token", "x-request-id", "cookie")]
    [True, True, False, False, True]
    """

    def __init__(self, asked: str = "") -> None:
        names = [name.strip().lower() for name in asked.split(",") if name.strip()]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} names no header: give names and patterns such as x-tenant-*, with commas between them")
        more = [name for name in names if not name.startswith("!")]
        self._kept = _one_of([name.removeprefix("!") for name in names if name.startswith("!")])
        self._withheld = _one_of([*CREDENTIALS, *more])

    def __call__(self, name: str) -> bool:
        """Whether handlers do without the header of this name, which is in lower case."""
        return name in NEVER or (self._withheld.fullmatch(name) is not None and self._kept.fullmatch(name) is None)


def _one_of(patterns: list[str]) -> re.Pattern[str]:
    alternatives = "|".join(".*".join(re.escape(part) for part in pattern.split("*")) for pattern in patterns)
    return re.compile(alternatives or "(?!)")
