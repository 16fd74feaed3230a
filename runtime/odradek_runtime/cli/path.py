"""What a command finds round it before it imports anything: its standard streams, its folder, where `import` looks.

The user's modules are looked for in the current folder, behind the standard library, whose names are taken.

A `queue.py` or `email.py` of the user's would otherwise be what every library in the process gets. Imports nothing but what the
interpreter has loaded already.
"""

# pathlib might come from the very folder that must not go first: hence os.path.
# ruff: noqa: PTH109, PTH118, PTH120, PTH123, SIM115
from __future__ import annotations

import os
import sys


def whole_surroundings() -> None:
    """Streams that were closed (`>&-`) lead nowhere, instead of being absent; a folder that is gone is said and ends it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    try:
        os.getcwd()
    except OSError as error:
        sys.exit(f"error: the current folder cannot be used: {error.strerror}\n  → go to another one: cd")


def import_from_here(*, add: bool) -> None:
    """Put the current folder behind the standard library on `sys.path`, in front of what is installed.

    Without `add` only if it is there (PYTHONPATH, `python -m`).
    """
    here = os.getcwd()
    library = os.path.dirname(os.__file__)
    others = [place for place in sys.path if os.path.realpath(place or here) != os.path.realpath(here)]
    if not add and len(others) == len(sys.path):
        return
    ends = [at for at, place in enumerate(others, 1) if place in (library, os.path.join(library, "lib-dynload"))]
    behind = max(ends, default=0)
    sys.path[:] = [*others[:behind], here, *others[behind:]]
