"""A command of the benchmark: where it prints, how it ends, and the option that several have."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from bench.contenders import end_on_sigterm

console = Console(width=None if sys.stdout.isatty() else 120)
BootstrapServers = Annotated[
    str | None, typer.Option(help="A broker to use; else KAFKA_BOOTSTRAP_SERVERS, else one is started.")
]


def run_command(main: Callable[..., None]) -> None:
    """Run it with the options of its command line; what went wrong is told without a traceback, exit code 1."""
    end_on_sigterm()
    try:
        typer.run(main)
    except (RuntimeError, ValueError) as failed:
        console.print(str(failed), style="red", markup=False)
        sys.exit(1)
