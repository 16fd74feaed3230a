"""`--start-anew`: what would be lost is shown, and asked about, before anything is deleted."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.markup import escape

from odradek_runtime.cli.appref import load_app
from odradek_runtime.cli.connect import make_data_dir
from odradek_runtime.cli.errors import USAGE, CommandError, err
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.worker.restore.start_anew import losses, start_anew
from odradek_runtime.worker.restore.startup import Making, StartupError


def confirm_and_start_anew(reference: str, workers: Sequence[Settings], *, yes: bool) -> None:
    """Before the first worker starts. `yes`: nobody is asked. Raises CommandError when it is not confirmed, or cannot be done."""
    app = load_app(reference)
    settings = workers[0]
    for each in workers:
        make_data_dir(each)
    log = open_log(settings)
    try:
        folders = [each.data_dir for each in workers]
        lost = losses(app, log, folders)
        err().print(f"[bold yellow]starting {escape(app.name)} anew[/]: this will be lost for good")
        for line in lost or ["nothing: it has not run here"]:
            err().print(f"  {escape(line)}")
        if not yes and typer.prompt(f"type the app's name ({app.name}) to go on", err=True) != app.name:
            raise CommandError("that is not its name: nothing was deleted", "type it, or give --yes", code=USAGE)
        making: Making = "inputs" if not settings.bootstrap_servers else "all" if settings.create_topics else "nothing"
        shards = start_anew(app, log, folders, make=making)
        err().print(f"{escape(app.name)} starts anew with {shards} shards")
    except StartupError as error:
        raise CommandError(str(error), code=USAGE) from None
    finally:
        log.close()
