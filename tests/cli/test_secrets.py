"""Secrets: files hold them, and no command line, log, page or message shows one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from odradek_runtime.configuration.kafka_options import KAFKA_OPTIONS, is_secret
from odradek_runtime.configuration.settings import Settings, SettingsError
from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until

NOWHERE = Path("/nowhere/pyproject.toml")
PASSWORD = "n0b0dy-sees-th1s"  # noqa: S105
OPTIONS = (
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.config",
)


def load(**env: str) -> Settings:
    """Settings from these variables alone."""
    return Settings.load({}, env=env, project=NOWHERE)


def test_secrets_are_told_from_other_options_by_their_names() -> None:
    assert {name for name in KAFKA_OPTIONS if is_secret(name)} == set(OPTIONS)
    assert is_secret("sasl.something.new.password")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("between", ["=", " ", ": "])
@pytest.mark.parametrize("command", [("run", "shop:app"), ("topics",), ("publish", "orders", "-"), ("consume", "orders")])
def test_a_secret_on_the_command_line_is_refused_with_the_way(
    run: Run, option: str, between: str, command: tuple[str, ...]
) -> None:
    said = run(*command, "--kafka", f"{option}{between}{PASSWORD}", ok=False)
    told = " ".join(said.output.split())
    variable = "ODRADEK_KAFKA_" + option.upper().replace(".", "_")
    assert said.exit_code == 2
    assert f"--kafka {option}=… is not taken" in told
    assert f"set {variable}, or {variable}_FILE" in told
    assert PASSWORD not in told


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_file_gives_what_a_variable_would(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" {PASSWORD} {end}".encode())
    assert load(ODRADEK_KAFKA_SASL_PASSWORD_FILE=str(file)).kafka == {"sasl.password": f" {PASSWORD} "}


def test_every_option_may_come_from_a_file_and_settings_that_are_text(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first\nsecond\n")
    assert load(ODRADEK_KAFKA_SSL_KEY_PEM_FILE=str(file)).kafka == {"ssl.key.pem": "first\nsecond"}
    assert load(ODRADEK_BOOTSTRAP_SERVERS_FILE=str(file)).bootstrap_servers == "first\nsecond"
    # An option that ends so by its own name is that option.
    assert load(ODRADEK_KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE="/a").kafka == {"sasl.oauthbearer.assertion.file": "/a"}


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe" + PASSWORD.encode(), "is not UTF-8"),
     (PASSWORD.encode() + b"\0", "has a zero byte"), (PASSWORD.encode() * 100_000, "has more than 1,048,576 bytes")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_and_its_content_is_not(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load(ODRADEK_KAFKA_SASL_PASSWORD_FILE=str(file))
    assert str(refused.value).startswith(f"ODRADEK_KAFKA_SASL_PASSWORD_FILE: '{file}' ")
    assert why in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("path", ["", "/etc", "a\0b"])
def test_a_path_that_is_no_file_is_named(path: str) -> None:
    with pytest.raises(SettingsError, match=r"ODRADEK_KAFKA_SASL_PASSWORD_FILE: .* cannot be read"):
        load(ODRADEK_KAFKA_SASL_PASSWORD_FILE=path)


def test_a_value_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SASL_PASSWORD_FILE and ODRADEK_KAFKA_SASL_PASSWORD are both set"):
        load(ODRADEK_KAFKA_SASL_PASSWORD_FILE=str(tmp_path), ODRADEK_KAFKA_SASL_PASSWORD=PASSWORD)


def test_settings_show_no_option_of_kafkas() -> None:
    assert PASSWORD not in repr(load(ODRADEK_KAFKA_SASL_PASSWORD=PASSWORD))


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += family(int(path.parent.name))
    return found


def test_neither_command_lines_nor_logs_nor_pages_show_a_secret(folder: Path, kafka: str, topic_prefix: str) -> None:
    shop = SHOP.replace('"orders"', f'"{topic_prefix}-orders"').replace('"invoices"', f'"{topic_prefix}-invoices"')
    (folder / "kafkashop.py").write_text(shop.replace('"shop"', f'"{topic_prefix}"'))
    secret = folder / "password"
    secret.write_text(PASSWORD + "\n")
    env = {"ODRADEK_KAFKA_SASL_PASSWORD_FILE": str(secret), "ODRADEK_LOG_LEVEL": "debug", "ODRADEK_KAFKA_DEBUG": "conf"}
    data_dir = folder / ".odradek" / "worker-0"
    args = ("run", "kafkashop:app", "--create-topics", "--workers", "2", "-b", kafka)
    with Serving(*args, data_dir=data_dir, env=env) as serving:
        worker = serving.worker()
        # A supervisor, two workers, and two producers of each.
        processes: list[int] = until(lambda: len(found := family(serving.process.pid)) >= 7 and found, "all processes")
        lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes if Path(f"/proc/{pid}").exists())
        pages = "".join(httpx.get(worker["admin_url"] + path).text for path in ("/health", "/ready", "/metrics", "/config"))
        assert serving.stop() == 0
    assert b"kafkashop:app" in lines
    for shown in (lines.decode(), serving.said, pages, str(worker)):
        assert PASSWORD not in shown
