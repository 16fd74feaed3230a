"""Settings of one worker: flags over `ODRADEK_*` variables over `[tool.odradek]` of pyproject.toml over these defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from .kafka_options import PREFIX as _KAFKA
from .kafka_options import option_of
from .memory import Shares
from .secret_files import SUFFIX, SecretFileError, read_secret
from .withheld import Withheld


class SettingsError(Exception):
    """A setting has a name or value that cannot be used; the message names it and says what is expected."""


class ProjectFileError(SettingsError):
    """pyproject.toml itself cannot be read."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every knob of a worker. Bounds are limits past which inputs are paused, never dropped."""

    bootstrap_servers: str = ""
    """Kafka's addresses; empty = the embedded log below `data_dir`."""
    data_dir: Path = Path(".odradek")
    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 9070
    private_port: int = 0
    """Where `host` listens for the app's other workers; 0 = a free port. Fixed where `advertised_url` names it: in containers."""
    advertised_url: str = ""
    """Where peers reach this worker's private HTTP port; empty = http://<host>:<private port chosen at start>."""
    private_token: str = field(default="", repr=False)
    """What the app's workers know each other by, the same at all of them; empty = a secret in the app's own topic <app>.secret."""
    awakeable_secret: str = field(default="", repr=False)
    """Seals the ids of awakeables, so that none can be guessed. Several, spaces between: the first seals, each still opens."""
    group_protocol: str = "classic"
    group_instance_id: str = ""
    session_timeout_s: float = 6.0
    transaction_timeout_s: float = 10.0
    epoch_linger_s: float = 0.05
    """How long an epoch may gather work when nobody waits for its commit."""
    epoch_backlog_s: float = 0.2
    """How long when records wait that are fetched already: fewer and larger transactions cost less a record."""
    epoch_events: int = 50_000
    epoch_bytes: int = 16 * 1024 * 1024
    coroutine_cache: int = 10_000
    """Suspended coroutines kept live; 0 forces a replay at every wait."""
    journal_entries: int = 100_000
    """Steps, calls, reads and so on that one invocation may journal; past it, it is paused where it is."""
    journal_bytes: int = 64 * 1024 * 1024
    """What these and their results may hold together."""
    steps_running: int = 1_000
    step_threads: int = 32
    steps_queued: int = 10_000
    requests_waiting: int = 10_000
    memory_bytes: int = 512 * 1024 * 1024
    """What a worker may hold of the data that goes through it, beside the interpreter and the app: see `memory.Shares`."""
    http_connections: int = 10_000
    """Of the public port. Each request that waits is one."""
    http_connections_per_address: int = 1_000
    """Of these, from one address (an IPv6 network of 64 bits); 0 = as many as there are: where all come from one proxy."""
    http_head_s: float = 10.0
    """How long a request's line and headers may take."""
    http_body_s: float = 30.0
    """How long its body, and its answer, may take, beside a second for each 16 KiB."""
    http_idle_s: int = 75
    """How long a connection is kept without a request; longer than usual clients keep it, so that the client is who closes."""
    http_head_bytes: int = 65_536
    """Of a request's line and headers."""
    http_hosts: tuple[str, ...] = ()
    """Names that the ports answer to, `*.` before one for all below it. Loopback's own count there anyway; elsewhere none = any."""
    http_cors_origins: tuple[str, ...] = ()
    """Origins such as https://app.example whose pages may ask the public port; those of the worker itself always may."""
    headers_withheld: str = ""
    """Beside credentials, the headers of requests that handlers do without, and nothing journals: names, patterns (x-tenant-*), and
    with `!` before it one that they get all the same; commas between them."""
    max_record_bytes: int = 8_000_000
    replication_factor: int = 0
    """Of the topics that odradek makes; 0 = the broker's default (at most the number of brokers)."""
    create_topics: bool = False
    """Kafka: the topics that the app declares, its inputs and outputs, are made where they are missing."""
    topics_watch_s: float = 5.0
    """How often the topics are looked at: partitions that were added are read within twice as long."""
    restored_topics: bool = False
    """Internal topics with other ids than the journal remembers are restored copies: go on with them."""
    producer_processes: bool = True
    """Kafka only: a worker's two producers run in processes of their own, which leaves the interpreter's lock to the engine."""
    log_level: str = ""
    """The least that is logged: debug, info, warning, error or critical; empty = what the app has set up, else info."""
    log_format: str = ""
    """text or json (one object a line); empty = what the app has set up, else text."""
    errors_shown: bool = False
    """Callers and topics get the text of any exception, not its class and an id alone: for development (`odradek dev`)."""
    handler_stall_s: float = 2.0
    """A handler that keeps the worker's loop for longer is reported with its stack; 0 = never."""
    fsync: bool = True
    """Embedded log only: every commit reaches the disk before it is acknowledged."""
    kafka: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Any librdkafka option, passed through (`--kafka key=value`, `ODRADEK_KAFKA_SASL_USERNAME` = sasl.username)."""

    @property
    def shares(self) -> Shares:
        """What may be held of `memory_bytes` for each purpose."""
        return Shares.of(self.memory_bytes, largest_bytes=self.max_record_bytes)

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        project: Path | None = None,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> Settings:
        """Merge flags (None values are absent), the environment and `[tool.odradek]`.

        Variables that look like ours and are none (Kubernetes sets such for a Service named odradek) are left out, and `warn` is
        told. A variable that ends in `_FILE` names the file that holds the value. Raises SettingsError naming the setting that is
        unknown or whose value does not fit its type, or the file that cannot be used, and ProjectFileError.

        >>> Settings.load({"port": 9000}, env={"ODRADEK_PORT": "1", "ODRADEK_EPOCH_EVENTS": "5"}, project=Path("/none")).port
        9000
        """
        known = {f.name: f for f in fields(cls)}
        defaults = cls()
        texts = {name for name in known if isinstance(getattr(defaults, name), str) and name not in _CHOICES}
        variables = Variables(os.environ if env is None else env, known, texts)
        for line in variables.warnings():
            warn(line)
        merged: dict[str, Any] = _from_project(project or Path("pyproject.toml"))
        merged.update(variables.settings)
        merged.update({k: v for k, v in (flags or {}).items() if v is not None})
        given: dict[str, Any] = (flags or {}).get("kafka") or {}
        kafka: dict[str, Any] = {**merged.pop("kafka", {}), **variables.kafka, **given}
        values: dict[str, Any] = {"kafka": {k: str(v) for k, v in kafka.items()}}
        for name, value in merged.items():
            if name not in known:
                raise SettingsError(f"unknown setting {name!r}: known are {', '.join(sorted(known))}")
            values[name] = _fitting(name, _chosen(name, _convert(name, value, getattr(defaults, name))))
        return replace(defaults, **values)


def _from_project(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("odradek", {})
    except (OSError, ValueError) as error:
        raise ProjectFileError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise ProjectFileError(f"{path}: tool.odradek is no table")
    return {name.replace("-", "_"): value for name, value in cast("dict[str, Any]", table).items()}


_PREFIX = "ODRADEK_"
_COMMANDS = {"app", "workers", "admin_url", "url", "debug"}
"""Variables that commands read themselves (ODRADEK_APP, ODRADEK_WORKERS ...)."""
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_OF_A_SERVICE = re.compile(r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")


class Variables:
    """The ODRADEK_* variables of an environment, sorted: settings, librdkafka's options, and those that are none of ours."""

    def __init__(self, environ: Mapping[str, str], known: Collection[str], texts: Collection[str]) -> None:
        self._known = known
        self._texts = texts
        self.settings: dict[str, Any] = {}
        self.kafka: dict[str, str] = {}
        self._links: list[str] = []
        self._unknown: list[str] = []
        files: dict[str, str] = {}
        for variable, value in environ.items():
            if self._names_file(variable):
                files[variable] = value
            elif variable.startswith(_PREFIX):
                self._take(variable, value)
        for variable, path in files.items():
            self._take_file(variable, path, environ)

    def warnings(self) -> list[str]:
        """One line for all that Kubernetes set, one for each other variable that is no setting."""
        lines = [f"{variable} is no setting and is left out{self._hint(variable)}" for variable in sorted(self._unknown)]
        if self._links:
            shown = ", ".join(sorted(self._links)[:3]) + (" …" if len(self._links) > 3 else "")
            lines.append(f"{shown}: set by Kubernetes for a Service, not settings, left out (enableServiceLinks: false ends that)")
        return lines

    def _take(self, variable: str, value: str) -> None:
        name = variable.removeprefix(_PREFIX).lower()
        option = option_of(variable.removeprefix(_KAFKA)) if variable.startswith(_KAFKA) else None
        if _SERVICE_LINK.match(value) or (name not in self._known and _OF_A_SERVICE.fullmatch(variable)):
            self._links.append(variable)
        elif option is not None:
            self.kafka[option] = value
        elif name in self._known:
            self.settings[name] = value
        elif name not in _COMMANDS and not name.startswith("test_"):
            self._unknown.append(variable)

    def _names_file(self, variable: str) -> bool:
        """Whether the variable names a file with the value of another: an option of librdkafka, or a setting that is text."""
        other = variable.removesuffix(SUFFIX)
        if other == variable or not variable.startswith(_PREFIX):
            return False
        if variable.startswith(_KAFKA):  # sasl.oauthbearer.assertion.file is an option itself
            return option_of(variable.removeprefix(_KAFKA)) is None and option_of(other.removeprefix(_KAFKA)) is not None
        return other.removeprefix(_PREFIX).lower() in self._texts

    def _take_file(self, variable: str, path: str, environ: Mapping[str, str]) -> None:
        other = variable.removesuffix(SUFFIX)
        if other in environ:
            raise SettingsError(f"{variable} and {other} are both set: leave one out")
        try:
            self._take(other, read_secret(variable, path))
        except SecretFileError as error:
            raise SettingsError(str(error)) from None

    def _hint(self, variable: str) -> str:
        if variable.startswith(_KAFKA):
            return ": librdkafka has no such option; --kafka NAME=VALUE passes any through"
        near = difflib.get_close_matches(variable, [_PREFIX + name.upper() for name in self._known], n=1, cutoff=0.8)
        return f": did you mean {near[0]}?" if near else ""


_LEAST_TOKEN = 16
_CHOICES = {"log_level": ("", "debug", "info", "warning", "error", "critical"), "log_format": ("", "text", "json")}


def _chosen(name: str, value: Any) -> Any:
    """The value, if the setting takes it; names of levels are written in any case."""
    choices = _CHOICES.get(name)
    if choices is None:
        return value
    if value.lower() not in choices:
        raise SettingsError(f"setting {name}: {value!r} is none of {', '.join(choices[1:])}")
    return value.lower()


_FORMS = {
    "http_hosts": (
        re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|[0-9a-f]*(:[0-9a-f.]*){2,}"),
        "the name of a host, without scheme and port",
    ),
    "http_cors_origins": (
        re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"),
        "an origin such as https://app.example or http://localhost:3000",
    ),
}


def _fitting(name: str, value: Any) -> Any:
    """The value, each of its parts as it must look. Raises SettingsError."""
    if name == "headers_withheld":
        try:
            Withheld(value)
        except ValueError as error:
            raise SettingsError(f"setting {name}: {error}") from None
    if name == "private_token" and 0 < len(value) < _LEAST_TOKEN:
        raise SettingsError(f"setting {name}: it has {len(value)} characters and needs {_LEAST_TOKEN} (openssl rand -hex 32)")
    if name not in _FORMS:
        return value
    form, what = _FORMS[name]
    parts = tuple(_as_browsers_write(part.lower()) for part in value)
    for part in parts:
        if not form.fullmatch(part):
            raise SettingsError(f"setting {name}: {part!r} is not {what}")
    return parts


def _as_browsers_write(origin: str) -> str:
    """Without the port that goes without saying; a host stays as it is."""
    for scheme, port in (("http://", ":80"), ("https://", ":443")):
        if origin.startswith(scheme):
            return origin.removesuffix("/").removesuffix(port)
    return origin


def _list(value: Any) -> tuple[str, ...]:
    parts: list[Any] = value.split(",") if isinstance(value, str) else list(value)
    return tuple(text for part in parts if (text := str(part).strip()))


def _convert(name: str, value: Any, default: Any) -> Any:
    try:
        if name in _FORMS:
            return _list(value)
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]
        return type(default)(value) if not isinstance(default, Path) else Path(value)
    except (KeyError, TypeError, ValueError):
        kind = {"tuple": "list"}.get(type(default).__name__, type(default).__name__)
        raise SettingsError(f"setting {name}: {value!r} is not {'an' if kind == 'int' else 'a'} {kind}") from None
