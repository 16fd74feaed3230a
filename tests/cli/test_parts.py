"""The parts of the command line that stand alone: the watch on the source, the flood of log lines, settings, help."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from odradek_runtime.cli.reload import SourceWatch
from odradek_runtime.cli.serve import per_worker
from odradek_runtime.cli.supervisor import decode_settings, encode_settings
from odradek_runtime.configuration.settings import Settings
from tests.cli.conftest import ROOT, Run


def test_the_watch_sees_files_written_made_and_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".venv").mkdir()
    a, b = tmp_path / "a.py", tmp_path / "sub" / "b.py"
    a.write_text("1")
    watch = SourceWatch([tmp_path], interval_s=0)
    assert watch.changed() is None
    os.utime(a, ns=(1, 1))
    assert watch.changed() == a
    assert watch.changed() is None
    b.write_text("2")
    assert watch.changed() == b
    b.unlink()
    assert watch.changed() == b
    (tmp_path / "notes.txt").write_text("no source")
    (tmp_path / ".venv" / "c.py").write_text("not the app's")
    assert watch.changed() is None


def test_the_watch_looks_no_more_often_than_told(tmp_path: Path) -> None:
    watch = SourceWatch([tmp_path], interval_s=3600)
    (tmp_path / "a.py").write_text("1")
    assert watch.changed() is None


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = Settings(data_dir=Path("x/y"), port=1, fsync=False, kafka={"sasl.password": "secret"}, session_timeout_s=7.5)
    assert decode_settings(encode_settings(settings) + b"\n") == settings


def test_each_worker_of_a_node_has_its_own_folder_and_identity() -> None:
    settings = Settings(bootstrap_servers="h:1", data_dir=Path("d"), group_instance_id="pod")
    two = per_worker(settings, 2)
    assert [one.data_dir for one in two] == [Path("d/worker-0"), Path("d/worker-1")]
    assert [one.group_instance_id for one in two] == ["pod-0", "pod-1"]
    # The same folder with one worker: scaling up keeps the first one's store.
    assert per_worker(settings, 1) == [replace(settings, data_dir=Path("d/worker-0"))]
    embedded = replace(settings, bootstrap_servers="")
    assert per_worker(embedded, 1) == [embedded]


@pytest.mark.parametrize("name", ["dev", "run", "publish", "consume", "call", "topics", "replay", "replays", "reset"])
def test_every_command_has_help(run: Run, name: str) -> None:
    shown = run(name, "--help").stdout
    assert f"Usage: odradek {name}" in shown
    assert "Examples" in shown


def test_help_keeps_what_looks_like_markup(run: Run) -> None:
    assert "[tool.odradek]" in run("run", "--help").stdout


def test_a_defect_is_two_lines_and_debug_shows_the_trace(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("odradek_runtime.cli.connect.log", explode)
    said = run("topics", ok=False)
    assert said.exit_code == 70
    assert "error: RuntimeError: boom" in said.stderr
    assert "--debug" in said.stderr
    assert "Traceback" not in said.stderr
    for args in (("topics", "--debug"), ("--debug", "topics")):
        assert "Traceback" in run(*args, ok=False).stderr


def test_a_wrong_setting_is_named(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODRADEK_PORT", "many")
    said = run("topics", ok=False)
    assert said.exit_code == 2
    assert "setting port: 'many' is not an int" in said.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[tool.odradek", "pyproject.toml cannot be read: Expected"),
        (b'name = "\xff"', "pyproject.toml cannot be read: 'utf-8' codec"),
        (b"[tool]\nodradek = 3", "pyproject.toml: tool.odradek is no table"),
    ],
)
def test_a_broken_project_file_is_named(run: Run, folder: Path, text: bytes, said: str) -> None:
    (folder / "pyproject.toml").write_bytes(text)
    failed = run("topics", ok=False)
    assert failed.exit_code == 2
    assert f"error: {said}" in failed.stderr
    assert "→ correct it" in failed.stderr


def test_the_examples_of_call_name_a_handler_of_the_readme(run: Run) -> None:
    assert "async def total" in (ROOT / "README.md").read_text()
    assert "odradek call customer/bob/total " in run("call", "--help").stdout
    failed = run("call", "customer", ok=False)
    assert "is no target" in failed.stderr
    assert "e.g. customer/bob/total" in failed.stderr


@pytest.mark.parametrize("url", ["nonsense", "localhost:8080", "http://", "http://h:port", "ftp://h:1"])
def test_a_url_that_is_none_is_said(run: Run, folder: Path, url: str) -> None:
    failed = run("call", "customer/bob/total", "--url", url, ok=False)
    assert failed.exit_code == 2
    assert failed.stderr == f"error: --url '{url}' is no URL of a worker\n  → write http://host:port\n"


def test_a_choice_that_there_is_not_is_said_plainly(run: Run, folder: Path) -> None:
    failed = run("publish", "t", "-", "--format", "xml", ok=False)
    assert failed.exit_code == 2
    assert "'--format': 'xml' is not one of" in failed.stderr
    assert "Value error" not in failed.stderr


def test_one_is_counted_as_one(run: Run, folder: Path) -> None:
    (folder / "a.jsonl").write_text("1\n{\n")
    said = run("publish", "t", "a.jsonl", "--create", "--partitions", "1", "--skip-bad")
    assert "created t with 1 partition\n" in said.stderr
    assert "published 1 record to t (1 partition, the embedded log in .odradek), 1 without key, 1 bad row left out, " in said.stdout
    assert "t has 1 partition, " in run("consume", "t", "--partition", "1", ok=False).stderr
