"""The commands together: `odradek --help`. Every error that a command raises ends here, in one or two lines."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from odradek_runtime.cli import call, consume, control, jobs, ps, publish, replay, reset, serve, settle, show, topics
from odradek_runtime.cli.errors import CommandError, explain
from odradek_runtime.cli.release import installed_version
from odradek_runtime.log.port import LogError

DEBUG = "--debug"


class Commands(TyperGroup):
    """The group of commands. `--debug` may stand anywhere on the line; errors become lines, not stack traces."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` out, wherever it stands before a `--`."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = DEBUG in args[:end] or os.environ.get("ODRADEK_DEBUG", "0") not in ("", "0", "false", "no")
        return super().parse_args(ctx, [arg for at, arg in enumerate(args) if arg != DEBUG or at > end])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; whatever escapes it is explained and becomes the exit code."""
        try:
            return super().invoke(ctx)
        except (CommandError, LogError) as error:
            known = error if isinstance(error, CommandError) else CommandError(str(error))
            raise typer.Exit(explain(known, debug=bool(ctx.obj))) from None
        except typer.BadParameter as error:
            # Typer's converters put their library's name for the error in front of what is wrong.
            error.message = error.message.removeprefix("Value error, ")
            raise
        except (typer.Exit, typer.Abort, typer.TyperException, KeyboardInterrupt):
            raise
        except OSError as error:
            raise typer.Exit(explain(_of_the_system(error), debug=bool(ctx.obj))) from None
        except Exception as error:  # noqa: BLE001 - the outermost layer: a defect is told in two lines, with the way to the trace
            raise typer.Exit(explain(error, debug=bool(ctx.obj))) from None


cli = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [bold]odradek dev module:app[/]: it needs no Kafka and no set-up.",
)


def _of_the_system(error: OSError) -> BaseException:
    """An error of the operating system in its own words; one without words is a defect like others."""
    if not error.strerror:
        return error
    named = f"{error.filename}: " if error.filename else ""
    told = CommandError(f"{named}{error.strerror}")
    told.__cause__ = error
    return told


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"odradek {installed_version()}")
        raise typer.Exit


@cli.callback()
def odradek(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the stack trace of an error; also ODRADEK_DEBUG=1.")] = False,
) -> None:
    """Durable execution for Python, on Kafka: plain async handlers that run to the end, exactly once."""


cli.command(epilog=serve.DEV_EXAMPLES)(serve.dev)
cli.command(epilog=serve.RUN_EXAMPLES)(serve.run)
cli.command(hidden=True)(serve.worker)
cli.command(epilog=publish.EXAMPLES)(publish.publish)
cli.command(epilog=consume.EXAMPLES)(consume.consume)
# A negative number is an argument of `call`, not an option that it does not know.
cli.command(epilog=call.EXAMPLES, context_settings={"ignore_unknown_options": True})(call.call)
cli.command(epilog=settle.EXAMPLES, context_settings={"ignore_unknown_options": True})(settle.resolve)
cli.command(epilog=settle.EXAMPLES)(settle.reject)
cli.command(epilog=topics.EXAMPLES)(topics.topics)
cli.command(epilog=ps.EXAMPLES)(ps.ps)
cli.command(epilog=show.EXAMPLES)(show.show)
cli.command(epilog=control.CANCEL_EXAMPLES)(control.cancel)
cli.command(epilog=control.KILL_EXAMPLES)(control.kill)
cli.command(epilog=control.PAUSE_EXAMPLES)(control.pause)
cli.command(epilog=control.RESUME_EXAMPLES)(control.resume)
cli.command(epilog=control.RESTART_EXAMPLES)(control.restart)
cli.command(epilog=control.PURGE_EXAMPLES)(control.purge)
cli.command(epilog=replay.EXAMPLES)(replay.replay)
cli.command(epilog=replay.LIST_EXAMPLES)(replay.replays)
cli.command(epilog=jobs.VERIFY_EXAMPLES)(jobs.verify)
cli.command(epilog=jobs.REBUILD_EXAMPLES)(jobs.rebuild)
cli.command(epilog=reset.EXAMPLES)(reset.reset)
