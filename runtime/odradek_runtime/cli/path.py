"""Where `import` looks for the user's modules: in the current folder, behind the standard library, whose names are taken.

A `queue.py` or `email.py` of the user's would otherwise be what every library in the process gets. Imports nothing but what the
interpreter has loaded already.
"""

# pathlib might come from the very folder that must not go first: hence os.path.
# ruff: noqa: PTH109, PTH118, PTH120
from __future__ import annotations

import os
import sys


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
