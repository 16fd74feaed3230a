"""The Dockerfile, compose file and chart against the code they start: names, ports, paths and settings that must agree.

Cheap and without tools, so part of `make test`; what needs Docker's and Kubernetes' own judgement is marked k8s.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
import yaml

from examples import flights
from odradek import App
from odradek_runtime.cli import serve
from odradek_runtime.cli.appref import load_app
from odradek_runtime.cli.supervisor import DRAIN_S
from odradek_runtime.configuration.settings import Settings
from tests.k8s.tools import CHART, PROJECT

DEFAULTS = Settings()
COMPOSE = cast("dict[str, Any]", yaml.safe_load((PROJECT / "docker-compose.yml").read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = ["worker-1", "worker-2"]
DOCKERFILE = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ")
# Set by the chart itself, or without meaning under it.
NOT_IN_THE_CHART = {
    "bootstrap_servers", "data_dir", "host", "port", "admin_host", "admin_port", "private_port", "advertised_url",
    "group_instance_id", "kafka", "fsync", "private_token", "awakeable_secret",
}  # fmt: skip


def dockerfile_environment() -> dict[str, str]:
    """What ENV lines of the last stage set."""
    pairs: dict[str, str] = {}
    for line in re.findall(r"^ENV (.*)$", DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE):
        pairs.update(pair.split("=", 1) for pair in line.split())
    return pairs


def worker_settings(name: str) -> Settings:
    """The settings a worker of the compose file comes to, flags of its command included."""
    command = SERVICES[name]["command"]
    pairs = zip(command[2::2], command[3::2], strict=True)
    flags = {flag.removeprefix("--").replace("-", "_"): value for flag, value in pairs}
    env = {**dockerfile_environment(), **SERVICES[name]["environment"]}
    return Settings.load(flags, env=env, project=Path("/nonexistent"))


@pytest.mark.parametrize("name", WORKERS)
def test_a_compose_worker_is_told_what_it_understands(name: str) -> None:
    settings = worker_settings(name)
    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.data_dir == Path("/data")
    assert settings.admin_host == settings.host == "0.0.0.0"  # noqa: S104 -- reached from other containers
    assert settings.advertised_url == f"http://{name}:{settings.private_port}"
    assert settings.private_port not in {0, settings.port, settings.admin_port}


def test_the_compose_commands_and_topics_are_the_apps() -> None:
    for name in WORKERS:
        command, reference, *flags = SERVICES[name]["command"]
        known = {parameter.replace("_", "-") for parameter in inspect.signature(getattr(serve, command)).parameters}
        assert {flag.removeprefix("--") for flag in flags[::2]} <= known
        app = load_app(reference)
        assert isinstance(app, App)
    (script,) = SERVICES["topic-init"]["command"]
    (made,) = re.findall(r"for topic in (.*); do", script)
    assert made.split() == [flights.departures.name, flights.arrivals.name]


@pytest.mark.parametrize("name", WORKERS)
def test_a_compose_worker_can_write_where_it_must_and_nowhere_else(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    places = [volume.split(":") for volume in service["volumes"]]
    assert ["/data"] in [place[1:] for place in places]
    assert [place[1:] for place in places if place[0].startswith(".")] == [["/app/examples", "ro"]]
    assert places[0][0] in COMPOSE["volumes"]


def test_compose_workers_share_no_volume_and_no_host_port() -> None:
    volumes = [volume for name in WORKERS for volume in SERVICES[name]["volumes"] if volume.endswith(":/data")]
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(set(volumes)) == len(WORKERS)
    assert len({port.split(":")[1] for port in ports}) == len(ports)
    assert all(port.startswith("127.0.0.1:") for port in ports), "nothing here is encrypted or asks who one is"


def test_prometheus_asks_every_worker() -> None:
    config = yaml.safe_load((PROJECT / "deploy" / "prometheus.yml").read_text())
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "odradek"]
    assert job["static_configs"][0]["targets"] == [f"{name}:{worker_settings(name).admin_port}" for name in WORKERS]


def test_the_broker_and_its_clients_agree() -> None:
    broker = SERVICES["kafka"]["environment"]
    listeners = dict(listener.split("://") for listener in broker["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert listeners[broker["KAFKA_INTER_BROKER_LISTENER_NAME"]] == worker_settings(WORKERS[0]).bootstrap_servers
    assert f"127.0.0.1:{listeners['OUTSIDE'].split(':')[1]}:19092" in SERVICES["kafka"]["ports"]
    assert SERVICES["kafka"]["image"] == SERVICES["topic-init"]["image"]
    assert broker["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_image_has_all_that_the_wheel_is_made_of() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    made_of = {package.split("/")[0] for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    made_of |= {"pyproject.toml", "schemas", project["project"]["readme"], *project["project"]["license-files"]}
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()}
    assert made_of <= copied, "add a COPY to the Dockerfile"
    patterns = re.findall(r"^[^#\n].*", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    assert patterns[0] == "*"
    assert copied <= {pattern.removeprefix("!") for pattern in patterns}, "let it through .dockerignore"


def pinned(path: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package that a file for pip names."""
    text = (PROJECT / path).read_text().replace("\\\n", " ")
    lines = re.findall(r"^([A-Za-z][\w.-]*)==(\S+)(.*)$", text, re.MULTILINE)
    named = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) == len(named), f"{path} has lines that pin nothing"
    return {name.lower().replace("_", "-"): (version, rest.count("--hash=sha256:")) for name, version, rest in lines}


def test_every_package_is_installed_by_its_hash() -> None:
    everything = pinned("constraints.txt")
    others = ("deploy/requirements.txt", "deploy/build-requirements.txt", "tests/routes/requirements.txt")
    locks = {path: pinned(path) for path in others}
    for path, packages in {"constraints.txt": everything, **locks}.items():
        assert packages
        assert not [name for name, (_, hashes) in packages.items() if not hashes], path
    for path in ("deploy/requirements.txt", "deploy/build-requirements.txt"):
        differing = [name for name, (version, _) in locks[path].items() if everything[name][0] != version]
        assert not differing, f"{path}: other versions than the tests run with; make constraints"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[><=]", line)[0].lower() for line in project["dependencies"]}
    assert needed <= locks["deploy/requirements.txt"].keys(), "make constraints"
    more = {re.split(r"[\[><=]", line)[0].lower() for line in project["optional-dependencies"]["dev"]} - {"odradek"}
    assert needed | more <= everything.keys(), "make constraints"


def test_nothing_is_installed_without_hashes() -> None:
    installs = re.findall(r"pip (?:install|wheel) [^&|]*", DOCKERFILE)
    makefile = (PROJECT / "Makefile").read_text()
    installs += re.findall(r"pip install .*", makefile)
    assert len(installs) >= 6
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line or "uv==" in line, line
    for line in re.findall(r"^FROM python.*$", DOCKERFILE, re.MULTILINE):
        assert "PYTHON_DIGEST" in line


def test_the_image_listens_where_it_says() -> None:
    settings = Settings.load(env=dockerfile_environment(), project=Path("/nonexistent"))
    assert settings.data_dir == Path("/data")
    assert settings.host == "0.0.0.0"  # noqa: S104 -- reached from outside the container
    (exposed,) = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed.split() == [str(settings.port), str(settings.admin_port)]
    (check,) = re.findall(r"^HEALTHCHECK .*$", DOCKERFILE, re.MULTILINE)
    assert f"'ODRADEK_ADMIN_PORT', '{settings.admin_port}'" in check
    assert "/health" in check
    assert re.search(r"^USER 65532:65532$", DOCKERFILE, re.MULTILINE)


SCHEMA = cast("dict[str, Any]", json.loads((CHART / "values.schema.json").read_text()))
VALUES = cast("dict[str, Any]", yaml.safe_load((CHART / "values.yaml").read_text()))
SAMPLES = sorted((Path(__file__).parent / "values").glob("*.yaml"))


def complaints(values: dict[str, Any]) -> str:
    """What the schema has against values, one complaint a line."""
    validator = cast("Any", jsonschema.Draft7Validator(SCHEMA))
    return "\n".join(error.message for error in validator.iter_errors(values))


def paths(values: dict[str, Any], schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, set[str], set[str]]]:
    """Every closed object of the schema: where it is, the names in the values, the names in the schema."""
    yield above, set(values), set(schema["properties"])
    for name, sub in schema["properties"].items():
        if "properties" in sub and isinstance(values.get(name), dict):
            yield from paths(values[name], sub, f"{above}{name}.")


def test_the_charts_schema_is_one_and_its_values_fit() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert complaints(VALUES) == ""


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_values_fit(sample: Path) -> None:
    assert complaints(yaml.safe_load(sample.read_text())) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"kafka": {"bootstrapServer": "kafka:9092"}}, "bootstrapServer"),
        ({"settings": {"epoch_linger": 1}}, "epoch_linger"),
        ({"kafka": {"properties": {"sasl.password": "secret"}}}, "sasl.password"),
        ({"app": "examples/flights.py"}, "examples/flights.py"),
    ],
)
def test_wrong_values_are_named(wrong: dict[str, Any], said: str) -> None:
    assert said in complaints(wrong)


def test_every_value_has_a_schema_and_a_default() -> None:
    for where, in_values, in_schema in paths(VALUES, SCHEMA):
        if not where.startswith("probes."):  # their timings are all optional
            assert in_values == in_schema - {"global"}, f"values.yaml and its schema differ at {where or 'the top'}"


def test_the_chart_knows_every_setting() -> None:
    known = set(SCHEMA["properties"]["settings"]["propertyNames"]["enum"])
    real = {field.name for field in fields(Settings)}
    assert known == real - NOT_IN_THE_CHART, "values.schema.json has the names at properties.settings.propertyNames"


def test_the_chart_sets_only_variables_that_exist() -> None:
    text = "".join(path.read_text() for path in sorted((CHART / "templates").glob("*.*")))
    written = set(re.findall(r"name: ODRADEK_([A-Z_]+)$", text, re.MULTILINE))
    real = {field.name.upper() for field in fields(Settings)}
    assert {name for name in written if not name.startswith("KAFKA_")} - {"APP"} <= real
    assert {"BOOTSTRAP_SERVERS", "DATA_DIR", "ADVERTISED_URL", "ADMIN_HOST", "KAFKA_SASL_PASSWORD"} <= written


def written(value: object) -> str:
    """A default as the documentation writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return (",".join(value) if isinstance(value, tuple) else str(value)) or "empty"


def test_the_docs_have_every_setting_with_its_default() -> None:
    section = (PROJECT / "docs" / "settings.md").read_text().partition("\n## All settings\n")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `?([^ `,|]+)", section, re.MULTILINE))
    # An address that is made at the start has no default to write down.
    real = {field.name: written(getattr(DEFAULTS, field.name)) for field in fields(Settings) if field.name != "kafka"}
    real["advertised_url"] = "http://host:private"
    assert documented == real, "docs/settings.md lists the settings of a worker, one a row"


def test_workers_may_take_as_long_to_stop_as_they_do() -> None:
    assert VALUES["terminationGracePeriodSeconds"] > DRAIN_S
    assert all(float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > DRAIN_S for name in WORKERS)


def test_the_chart_and_the_package_have_one_version() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["project"]["version"]


def test_the_charts_ports_are_the_defaults() -> None:
    text = (CHART / "templates" / "statefulset.yaml").read_text()
    assert f"containerPort: {DEFAULTS.port}}}" in text
    assert f"containerPort: {DEFAULTS.admin_port}}}" in text
