"""The command line: `odradek dev | run | publish | consume | call | topics`: starts workers and talks to them."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]

_INTERRUPTED = 130
_SERVING = ("dev", "run", "worker")
"""To these SIGTERM is the way to end: that early there is nothing to hand over."""


def main() -> None:
    """Entry point of the `odradek` script.

    Nothing is imported before Ctrl-C and SIGTERM have a handler: the imports take long enough for a user to think better of
    it, and the first process of a container does not hear SIGTERM without one.
    """
    from odradek_runtime.cli.path import import_from_here, whole_surroundings

    whole_surroundings()
    import_from_here(add=False)
    import signal

    # A shell that starts a command in the background has it ignore Ctrl-C, and so it stays.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _leave)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    from odradek_runtime.cli.main import cli

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli(prog_name="odradek")
    except KeyboardInterrupt:  # before the command line has begun to look out for it
        sys.exit(_INTERRUPTED)


def _leave(_number: int, _frame: object) -> None:
    """Not by an exception, which a module that is being imported may catch, or print."""
    os._exit(_INTERRUPTED)


def _end(number: int, _frame: object) -> None:
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    os._exit(0 if command in _SERVING else 128 + number)
