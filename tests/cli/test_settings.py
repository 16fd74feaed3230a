"""Settings from the environment: librdkafka's own names, and variables that only look like ours."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka
import pytest

from odradek_runtime.configuration.kafka_options import KAFKA_OPTIONS, option_of
from odradek_runtime.configuration.settings import Settings
from tests.cli.conftest import Run

NOWHERE = Path("/nowhere/pyproject.toml")
OF_KUBERNETES = {
    "ODRADEK_PORT": "tcp://10.96.0.7:8080",
    "ODRADEK_SERVICE_HOST": "10.96.0.7",
    "ODRADEK_SERVICE_PORT": "8080",
    "ODRADEK_SERVICE_PORT_HTTP": "8080",
    "ODRADEK_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "ODRADEK_PORT_8080_TCP_PROTO": "tcp",
    "ODRADEK_PORT_8080_TCP_PORT": "8080",
    "ODRADEK_PORT_8080_TCP_ADDR": "10.96.0.7",
    "ODRADEK_ADMIN_PORT": "tcp://10.96.0.8:9070",
    "ODRADEK_ADMIN_SERVICE_HOST": "10.96.0.8",
    "ODRADEK_KAFKA_PORT": "tcp://10.96.0.9:9092",
    "ODRADEK_KAFKA_SERVICE_HOST": "10.96.0.9",
    "ODRADEK_KAFKA_SERVICE_PORT_PLAIN": "9092",
    "ODRADEK_KAFKA_PORT_9092_TCP_ADDR": "10.96.0.9",
}


def test_what_kubernetes_sets_for_a_service_is_left_out_and_said_in_one_line() -> None:
    said: list[str] = []
    loaded = Settings.load({}, env={**OF_KUBERNETES, "ODRADEK_EPOCH_EVENTS": "7"}, project=NOWHERE, warn=said.append)
    assert loaded == Settings(epoch_events=7)
    (line,) = said
    assert "Kubernetes" in line
    assert "ODRADEK_ADMIN_PORT" in line


def test_a_variable_that_is_no_setting_is_warned_of_with_the_nearest() -> None:
    said: list[str] = []
    env = {"ODRADEK_ADMIM_PORT": "1", "ODRADEK_COLOUR": "red", "ODRADEK_KAFKA_SASL_USERNAM": "bob", "ODRADEK_APP": "a:b"}
    assert Settings.load({}, env=env, project=NOWHERE, warn=said.append) == Settings()
    assert said == [
        "ODRADEK_ADMIM_PORT is no setting and is left out: did you mean ODRADEK_ADMIN_PORT?",
        "ODRADEK_COLOUR is no setting and is left out",
        ("ODRADEK_KAFKA_SASL_USERNAM is no setting and is left out: librdkafka has no such option; "
        "--kafka NAME=VALUE passes any through"),
    ]


def test_a_command_goes_on_beside_a_service_of_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OF_KUBERNETES.items():
        monkeypatch.setenv(name, value)
    said = run("publish", "t", "-", "--create", stdin="1\n")
    assert "published 1 record" in said.stdout
    assert said.stderr.count("warning:") == 1


def test_variables_have_the_names_of_librdkafkas_options() -> None:
    env = {"ODRADEK_KAFKA_LOG_LEVEL": "7", "ODRADEK_KAFKA_SASL_USERNAME": "bob", "ODRADEK_KAFKA_ENABLED_EVENTS": "0"}
    kafka = Settings.load({}, env=env, project=NOWHERE).kafka
    assert kafka == {"log_level": "7", "sasl.username": "bob", "enabled_events": "0"}


def test_the_names_are_those_of_the_library_that_is_installed(tmp_path: Path) -> None:
    (library,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka*")
    rdkafka, libc, shown = ctypes.CDLL(str(library)), ctypes.CDLL(None), tmp_path / "options"
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(str(shown).encode(), b"w"))
    rdkafka.rd_kafka_conf_properties_show(stream)
    libc.fclose(stream)
    rows = [line.split("|") for line in shown.read_text().splitlines() if line.count("|") >= 5]
    names = {row[0].strip() for row in rows[2:] if "see dedicated API" not in row[-1]}
    assert {name for name in names if "Property" not in name and "---" not in name} == KAFKA_OPTIONS
    assert all(option_of(name.replace(".", "_")) == name for name in KAFKA_OPTIONS)
