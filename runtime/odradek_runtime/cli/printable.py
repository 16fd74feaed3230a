r"""Text of strangers on a terminal or in a log: what would move the cursor, clear the screen or pass for a line of ours is escaped.

Everything that a command or a worker shows and has not made itself comes through here; `--format raw` alone does not.
"""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""All of C0 but tab and line feed, C1, and what ends a line or turns its direction in Unicode."""


def printable(text: str) -> str:
    r"""The text with control characters as JSON writes them; tabs and line feeds stay.

    >>> printable("a\x1b[2Jb\x9b")
    'a\\u001b[2Jb\\u009b'
    """
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""As `printable`, tabs and line feeds escaped, too.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
