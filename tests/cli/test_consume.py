"""`odradek consume` and `topics`: what is in a topic, in the order of time, in a form for people and one for pipes."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from odradek_runtime.cli.topics import SUFFIXES, Progress
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from tests.cli.conftest import Run, command, environment


@pytest.fixture
def filled(folder: Path) -> Path:
    """A log with a topic of two partitions: JSON, text, raw bytes, a tombstone; and headers."""
    log = EmbeddedLog(folder / ".odradek" / "log", fsync=False)
    log.create_topic("t", 2, {})
    publisher = log.publisher("test")
    records = [
        Output("t", 0, b"a", b'{"n": 1}', [("trace", b"x"), ("bin", b"\xff")], 1_000),
        Output("t", 1, b"b", b"plain text", None, 2_000),
        Output("t", 0, b"\xff", b"\xfe\xff", None, 3_000),
        Output("t", 1, None, None, None, 4_000),
    ]
    publisher.publish(records, 4)
    publisher.close()
    log.close()
    return folder


def lines(run: Run, *args: str) -> list[object]:
    return [json.loads(line) for line in run("consume", "t", *args).stdout.splitlines()]


def test_json_merges_the_partitions_by_time(run: Run, filled: Path) -> None:
    assert lines(run) == [{"n": 1}, "plain text", {"base64": "/v8="}, None]


def test_keys_headers_and_positions_are_shown_when_asked(run: Run, filled: Path) -> None:
    shown = lines(run, "--key", "--headers", "--meta")
    assert shown[0] == {
        "partition": 0,
        "offset": 0,
        "timestamp": "1970-01-01 00:00:01.000",
        "key": "a",
        "headers": [["trace", "x"], ["bin", {"base64": "/w=="}]],
        "value": {"n": 1},
    }
    assert shown[3] == {
        "partition": 1,
        "offset": 1,
        "timestamp": "1970-01-01 00:00:04.000",
        "key": None,
        "headers": [],
        "value": None,
    }


def test_a_range_is_chosen_by_offset_partition_and_number(run: Run, filled: Path) -> None:
    assert lines(run, "--from", "1") == [{"base64": "/v8="}, None]
    assert lines(run, "--partition", "1") == ["plain text", None]
    assert lines(run, "--max", "2") == [{"n": 1}, "plain text"]
    assert lines(run, "--from", "latest", "--no-follow") == []


def test_raw_and_table(run: Run, filled: Path) -> None:
    assert run("consume", "t", "--format", "raw").stdout_bytes == b'{"n": 1}\nplain text\n\xfe\xff\n\n'
    table = run("consume", "t", "--format", "table").stdout.splitlines()
    assert table[0].split() == ["PART", "OFFSET", "TIME", "(UTC)", "KEY", "VALUE"]
    assert table[2].split()[:2] == ["1", "0"]
    assert table[2].endswith('b                 "plain text"')


def test_what_is_no_date_is_shown_as_its_number_and_the_rest_follows(run: Run, filled: Path) -> None:
    """Microseconds where milliseconds belong; a record that comes later in time is not lost for it."""
    log = EmbeddedLog(filled / ".odradek" / "log", fsync=False)
    publisher = log.publisher("microseconds")
    times = (1_700_000_000_000_000, 2**63 - 1, -(2**63))
    publisher.publish([Output("t", 0, b"k", b"%d" % ms, None, ms) for ms in times], 3)
    publisher.close()
    log.close()
    shown = [line for line in lines(run, "--meta", "--partition", "0") if isinstance(line, dict)]
    assert [line["timestamp"] for line in shown][2:] == [f"{ms} ms" for ms in times]
    assert [line["value"] for line in shown][2:] == list(times)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("consume", "tt"), "did you mean t?"),
        (("consume", "t", "--partition", "2"), "t has 2 partitions"),
        (("consume", "t", "--from", "yesterday"), "neither earliest, latest nor an offset"),
    ],
)
def test_what_is_not_there_is_said(run: Run, filled: Path, args: tuple[str, ...], said: str) -> None:
    failed = run(*args, ok=False)
    assert failed.exit_code == 2
    assert said in failed.stderr


def test_publishing_makes_no_log_unless_told(run: Run, folder: Path) -> None:
    failed = run("publish", "t", "-", ok=False, stdin="1")
    assert "there is no log in .odradek" in failed.stderr
    assert not (folder / ".odradek").exists()
    run("publish", "t", "-", "--create", stdin="1")


def test_reading_makes_no_log(run: Run, folder: Path) -> None:
    assert "there is no log in .odradek" in run("consume", "t", ok=False).stderr
    assert "there is no log in .odradek" in run("topics", ok=False).stderr
    assert not (folder / ".odradek").exists()


def test_a_log_in_use_elsewhere_is_said_in_words(run: Run, filled: Path) -> None:
    log = EmbeddedLog(filled / ".odradek" / "log")
    try:
        failed = run("topics", ok=False)
    finally:
        log.close()
    assert "error:" in failed.stderr
    assert "Traceback" not in failed.output
    assert "defect" not in failed.output


def test_topics_shows_partitions_and_sizes(run: Run, filled: Path) -> None:
    assert [line.split() for line in run("topics").stdout.splitlines()] == [
        ["TOPIC", "PARTITIONS", "OFFSETS", "READ", "BY", "UNREAD"],
        ["t", "2", "4"],
    ]


def test_what_has_not_been_begun_is_unread_too(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a partition none of which has been read an app has committed nothing."""
    with closing(EmbeddedLog(filled / ".odradek" / "log")) as log:
        for suffix in SUFFIXES:
            log.create_topic(f"shop{suffix}", 1, {})
        info = log.topic("t")
        assert info is not None
        first, second = Partition("t", 0), Partition("t", 1)
        ends = [log.offsets(partition)[1] for partition in (first, second)]
        monkeypatch.setattr(log, "committed_offsets", lambda _app, _partitions: {first: ends[0]})
        assert Progress(log, [info]).readers(info) == [("shop", f"{ends[1]}")]
    assert ends[1] > 0


def test_topics_makes_one(run: Run, folder: Path) -> None:
    run("topics", "--create", "new", "--partitions", "3")
    assert run("topics").stdout.splitlines()[1].split() == ["new", "3", "0"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_following_without_a_word(filled: Path) -> None:
    args = command(["consume", "t", "--follow"])
    with subprocess.Popen(args, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline()) for _ in range(4)][:2] == [{"n": 1}, "plain text"]
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest, said) == (130, "", "")


def test_a_closed_pipe_ends_it_without_a_word(filled: Path) -> None:
    shell = " ".join(command(["consume", "t"])) + " | head -1"
    done = subprocess.run(["sh", "-c", shell], env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert (json.loads(done.stdout), done.stderr) == ({"n": 1}, "")
