"""The folder: everything survives a restart, one process has it open, a temporary one leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError, Output, Partition
from tests.contract.embedded.conftest import OpenLog, make_app
from tests.contract.station import Station, publish, values


def test_everything_survives_a_restart(open_log: OpenLog) -> None:
    log = open_log()
    make_app(log, "app", 2)
    made = log.create_topic("in", 2, {"retention.ms": "1000"})
    log.publisher("p").publish([Output("in", 1, b"k", b"%d" % n) for n in range(2_500)], 2_500)
    log.trim(Partition("in", 1), 3)
    station = Station(log, "app", 2).join().own({0, 1})
    transaction = station.transaction([1], offsets={Partition("app.commands", 1): 5, Partition("in", 1): 44})
    transaction.state[1] = [(b"k", b"v")]
    station.committed(transaction)
    station.leave()
    log.close()

    again = open_log()

    assert again.topic("in") == made
    assert again.topics() == ["app.commands", "app.journal", "app.state", "in"]
    assert again.offsets(Partition("in", 1)) == (3, 2_500)
    assert values(again, Partition("in", 1)) == [b"%d" % n for n in range(3, 2_500)]
    assert values(again, Partition("app.state", 1)) == [b"v"]
    assert again.publisher("p").position() == 2_500
    assert again.committed("app", Partition("in", 1)) == 44
    heir = Station(again, "app", 2).join().own({0, 1})
    assert (heir.member.settle(0), heir.member.settle(1)) == (None, 5)
    assert min(heir.every_stamp) > max(station.every_stamp)
    publish(again, [Output("in", 1, b"k", b"next")])
    assert again.offsets(Partition("in", 1)) == (3, 2_501)
    heir.leave()


def test_a_time_is_found_after_a_restart(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 1, {"retention.ms": "-1"})
    for start in range(0, 5_000, 700):
        publish(log, [Output("in", 0, b"k", b"v", None, 1_000 + n) for n in range(start, start + 700)])
    log.close()

    again = open_log()

    assert [again.offset_at(Partition("in", 0), 1_000 + n) for n in (0, 1, 699, 700, 3_333, 5_599)] == [
        0, 1, 699, 700, 3_333, 5_599,
    ]  # fmt: skip
    assert again.offset_at(Partition("in", 0), 99_999) == 5_600


def test_a_second_process_is_told_who_has_the_folder_and_what_to_do(open_log: OpenLog, tmp_path: Path) -> None:
    open_log()
    script = (
        "import sys; from pathlib import Path; from odradek_runtime.log.embedded import EmbeddedLog\n"
        "from odradek_runtime.log.port import LogError\n"
        "try: EmbeddedLog(Path(sys.argv[1]))\n"
        "except LogError as error: print(error.retriable, error)"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert run.stdout.startswith("False ")
    assert f"process {os.getpid()} " in run.stdout
    assert "--data-dir" in run.stdout


def test_the_folder_cannot_be_opened_twice_in_one_process_but_again_after_closing(open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log()
    with pytest.raises(LogError) as refused:
        EmbeddedLog(tmp_path / "log")
    assert not refused.value.retriable

    log.close()
    log.close()

    EmbeddedLog(tmp_path / "log").close()


def test_a_temporary_log_leaves_nothing_behind() -> None:
    log = EmbeddedLog(None)
    folder = log.disk.path
    log.create_topic("in", 1, {})
    assert folder.is_dir()

    log.close()

    assert not folder.exists()


def test_a_closed_log_says_so(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 1, {})
    publish(log, [Output("in", 0, b"k", b"v")])
    log.close()

    with pytest.raises(LogError, match="closed") as reading:
        list(log.scan(Partition("in", 0), 0, 1))
    with pytest.raises(LogError, match="closed") as writing:
        log.publisher("p").publish([], 1)

    assert not reading.value.retriable
    assert not writing.value.retriable
