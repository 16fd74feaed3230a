"""`odradek dev` and `odradek run`: a supervisor and its workers; `worker` (hidden) is one of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, NoReturn

import typer

from odradek_runtime.cli import options
from odradek_runtime.cli.anew import confirm_and_start_anew
from odradek_runtime.cli.appref import source_folders
from odradek_runtime.cli.errors import USAGE, CommandError
from odradek_runtime.cli.logs import set_up_logging
from odradek_runtime.cli.reload import SourceWatch
from odradek_runtime.cli.speech import Speech, errors_told
from odradek_runtime.cli.supervisor import Supervisor
from odradek_runtime.configuration.settings import Settings

DEV_EXAMPLES = """
[bold]Examples[/]

  odradek dev shop:app                     the App called app in shop.py of this folder
  odradek dev examples.flights:app         … in a package
  odradek dev shop:app --no-reload --port 9000

Beside it, in the same folder: odradek publish, consume, call, topics.
"""
RUN_EXAMPLES = """
[bold]Examples[/]

  odradek run shop:app                                           the embedded log, one worker
  odradek run shop:app -b kafka:9092 --workers 4                 Kafka, four processes
  odradek run shop:app -b kafka:9093 --kafka security.protocol=SASL_SSL --kafka sasl.mechanism=PLAIN \\
      --kafka sasl.username=shop                                 the password: ODRADEK_KAFKA_SASL_PASSWORD

Every flag is also an environment variable (ODRADEK_PORT) and a key of \\[tool.odradek] in pyproject.toml.
"""

Reference = Annotated[str, typer.Argument(metavar="MODULE:APP", envvar="ODRADEK_APP", help="The App: a variable of a module.")]
Host = Annotated[str | None, typer.Option("--host", help="Address of the HTTP port. Default: 127.0.0.1", rich_help_panel="HTTP")]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", min=0, max=65535, help="HTTP; 0 takes a free one. Default: 8080", rich_help_panel="HTTP"),
]
AdminHost = Annotated[
    str | None,
    typer.Option("--admin-host", help="Address of the admin port. Default: 127.0.0.1", rich_help_panel="HTTP"),
]
AdminPort = Annotated[
    int | None,
    typer.Option("--admin-port", min=0, max=65535, help="Health and metrics. Default: 9070", rich_help_panel="HTTP"),
]

Workers = Annotated[int, typer.Option("--workers", "-w", min=1, envvar="ODRADEK_WORKERS", help="Processes; they share the ports.")]
PrivatePort = Annotated[
    int | None,
    typer.Option(
        "--private-port",
        min=0,
        max=65535,
        help="Where the app's other workers reach this one. Default: a free one",
        rich_help_panel="HTTP",
    ),
]
AdvertisedUrl = Annotated[
    str | None,
    typer.Option("--advertised-url", metavar="URL", help="How they reach it, when not by --host.", rich_help_panel="HTTP"),
]
GroupProtocol = Annotated[
    str | None,
    typer.Option(
        "--group-protocol",
        metavar="classic|consumer",
        help="Kafka's group protocol. Default: classic",
        rich_help_panel="Log",
    ),
]
GroupInstanceId = Annotated[
    str | None, typer.Option("--group-instance-id", metavar="ID", help="Static membership.", rich_help_panel="Log")
]
SessionTimeout = Annotated[
    float | None,
    typer.Option(
        "--session-timeout",
        metavar="SECONDS",
        help="When a silent worker counts as dead. Default: 6",
        rich_help_panel="Log",
    ),
]
ReplicationFactor = Annotated[
    int | None,
    typer.Option("--replication-factor", min=0, help="Of topics made here; 0 = the broker's default.", rich_help_panel="Log"),
]
CreateTopics = Annotated[
    bool | None,
    typer.Option(
        "--create-topics",
        help="Make missing topics that the app declares, with as many partitions as it has shards.",
        rich_help_panel="Log",
    ),
]
CoroutineCache = Annotated[
    int | None,
    typer.Option("--coroutine-cache", min=0, help="Suspended invocations kept live. Default: 10000", rich_help_panel="Limits"),
]
EpochEvents = Annotated[
    int | None,
    typer.Option("--epoch-events", min=1, help="The most records in one commit. Default: 50000", rich_help_panel="Limits"),
]
MaxRecordBytes = Annotated[int | None, typer.Option("--max-record-bytes", min=1, help="Default: 8000000", rich_help_panel="Limits")]
StepThreads = Annotated[
    int | None,
    typer.Option("--step-threads", min=1, help="For steps that are no coroutines. Default: 32", rich_help_panel="Limits"),
]
Fsync = Annotated[
    bool | None,
    typer.Option("--fsync/--no-fsync", help="Embedded log: each commit reaches the disk.", rich_help_panel="Limits"),
]
StartAnew = Annotated[
    bool,
    typer.Option(
        "--start-anew",
        help="First delete all that the app has of its own (state, invocations, timers, positions); asks before.",
        rich_help_panel="Log",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="With --start-anew: ask nothing.", rich_help_panel="Log")]
RestoredTopics = Annotated[
    bool | None,
    typer.Option(
        "--restored-topics",
        help="Internal topics that were made again are restored copies: go on with them.",
        rich_help_panel="Log",
    ),
]


KAFKAS = ("group_protocol", "group_instance_id", "session_timeout_s", "replication_factor", "create_topics")
"""Flags of `run` that mean nothing on the embedded log."""


def dev(
    ctx: typer.Context,
    reference: Reference,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Restart when a source file changes.")] = True,
    host: Host = None,
    port: Port = None,
    admin_port: AdminPort = None,
    data_dir: options.DataDir = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
    start_anew: StartAnew = False,
    yes: Yes = False,
) -> None:
    """Run an app on the embedded log in .odradek, and restart it when its source changes."""
    flags: dict[str, Any] = dict(locals())
    for own in ("ctx", "reference", "reload", "start_anew", "yes"):
        del flags[own]
    settings = replace(options.settings(**flags), bootstrap_servers="", errors_shown=True)
    if start_anew:
        confirm_and_start_anew(reference, [settings], yes=yes)
    _supervise(ctx, reference, [settings], reload=reload)


def run(
    ctx: typer.Context,
    reference: Reference,
    bootstrap_servers: options.BootstrapServers = None,
    workers: Workers = 1,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Restart when a source file changes.")] = False,
    host: Host = None,
    port: Port = None,
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    private_port: PrivatePort = None,
    advertised_url: AdvertisedUrl = None,
    data_dir: options.DataDir = None,
    group_protocol: GroupProtocol = None,
    group_instance_id: GroupInstanceId = None,
    session_timeout_s: SessionTimeout = None,
    replication_factor: ReplicationFactor = None,
    create_topics: CreateTopics = None,
    coroutine_cache: CoroutineCache = None,
    epoch_events: EpochEvents = None,
    max_record_bytes: MaxRecordBytes = None,
    step_threads: StepThreads = None,
    fsync: Fsync = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
    kafka: options.Kafka = None,
    restored_topics: RestoredTopics = None,
    start_anew: StartAnew = False,
    yes: Yes = False,
) -> None:
    """Run an app on Kafka, or without --bootstrap-servers on the embedded log. A worker that dies is restarted."""
    flags: dict[str, Any] = dict(locals())
    for own in ("ctx", "reference", "workers", "reload", "start_anew", "yes"):
        del flags[own]
    settings = options.settings(**flags)
    with errors_told(settings):
        if settings.group_protocol not in ("classic", "consumer"):
            raise CommandError(f"group protocol {settings.group_protocol!r} does not exist", "classic or consumer", code=USAGE)
        _check_session(settings, given=session_timeout_s is not None)
        if not settings.bootstrap_servers:
            _warn_of_kafkas(Speech(settings), kafka=kafka, **{name: flags[name] for name in KAFKAS})
        each = per_worker(settings, workers)
        if start_anew:
            confirm_and_start_anew(reference, each, yes=yes)
    _supervise(ctx, reference, each, reload=reload)


def _supervise(ctx: typer.Context, reference: str, settings: Sequence[Settings], *, reload: bool) -> NoReturn:
    if settings[0].log_format == "json":
        set_up_logging(settings[0])
    watch = SourceWatch(source_folders(reference)) if reload else None
    raise typer.Exit(Supervisor(reference, settings, watch, debug=bool(ctx.obj)).run())


def _check_session(settings: Settings, *, given: bool) -> None:
    """Raises CommandError where a session timeout is asked for that this worker has no say in."""
    default, asked = Settings().session_timeout_s, settings.session_timeout_s
    if settings.group_protocol == "consumer" and (given or asked != default):
        raise CommandError(
            f"session_timeout_s={asked:g} does nothing with --group-protocol consumer: the broker decides there",
            "set group.consumer.session.timeout.ms at the broker (or of the group, with kafka-configs), and leave it out here",
            code=USAGE,
        )


def _warn_of_kafkas(speech: Speech, **flags: object) -> None:
    for name in [name for name, value in flags.items() if value is not None]:
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        speech.warn(f"{flag} is for Kafka, and this is the embedded log: it does nothing here")


def per_worker(settings: Settings, workers: int) -> list[Settings]:
    """Each worker's own settings: a folder for its stores, an instance id if ids are used.

    Raises CommandError for several workers on the embedded log, which is one process's, or on one fixed private port.
    """
    if not settings.bootstrap_servers:
        if workers > 1:
            raise CommandError("the embedded log takes one worker", "--bootstrap-servers for more, or no --workers", code=USAGE)
        return [settings]
    if workers > 1 and (settings.private_port or settings.advertised_url):
        raise CommandError(
            "--private-port and --advertised-url name one worker",
            "run one worker per container, or leave them out",
            code=USAGE,
        )
    instance = settings.group_instance_id
    return [
        replace(
            settings,
            data_dir=settings.data_dir / f"worker-{index}",
            group_instance_id=f"{instance}-{index}" if instance and workers > 1 else instance,
        )
        for index in range(workers)
    ]


def worker(
    reference: str,
    lifeline: Annotated[int, typer.Option()],
    index: Annotated[int, typer.Option()] = 0,
    workers: Annotated[int, typer.Option()] = 1,
    voice: Annotated[int, typer.Option()] = -1,
    sources: Annotated[int, typer.Option()] = -1,
) -> None:
    """One worker of a supervisor; its settings come through the lifeline."""
    from odradek_runtime.cli.child import run_worker

    run_worker(reference, lifeline=lifeline, index=index, workers=workers, voice=voice, sources=sources)
