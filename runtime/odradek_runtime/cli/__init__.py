"""The command line: `odradek dev | run | publish | consume | call | topics`: starts workers and talks to them."""

from __future__ import annotations

import os

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Entry point of the `odradek` script.

    Nothing is imported before Ctrl-C has a handler: the imports take long enough for a user to think better of it.
    """
    from odradek_runtime.cli.path import import_from_here

    import_from_here(add=False)
    import signal

    # A shell that starts a command in the background has it ignore Ctrl-C, and so it stays.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _leave)
    from odradek_runtime.cli.main import cli

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli(prog_name="odradek")


def _leave(_number: int, _frame: object) -> None:
    """Not by an exception, which a module that is being imported may catch, or print."""
    os._exit(_INTERRUPTED)
