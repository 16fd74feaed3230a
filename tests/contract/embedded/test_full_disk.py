"""A disk without room: commits are refused with the remedy, nothing is torn, and it goes on when there is room again."""

import subprocess
import sys
from pathlib import Path

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError, Output, Partition, Trouble
from tests.contract.embedded.conftest import OpenLog, make_app
from tests.contract.station import Station, values


def test_commits_are_refused_before_the_last_room_is_taken(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log()
    make_app(log, "app", 1)
    station = Station(log, "app", 1).join().own({0})
    station.committed(station.transaction(outputs=[Output("app.commands", 0, b"k", b"before")]))

    monkeypatch.setattr(log.disk, "reserve_bytes", 1 << 60)
    refused = station.refused(station.transaction(outputs=[Output("app.commands", 0, b"k", b"refused")]))
    trouble = station.wait(Trouble)
    with pytest.raises(LogError, match="free some space"):
        log.publisher("p").publish([Output("app.commands", 0, b"k", b"refused")], 1)
    monkeypatch.undo()

    assert (refused.reason, refused.poison) == ("aborted", False)
    assert "free some space" in trouble.message
    assert not trouble.fatal
    station.committed(station.transaction(outputs=[Output("app.commands", 0, b"k", b"after")]))
    assert values(log, Partition("app.commands", 0)) == [b"before", b"after"]


LIMITED = """
import resource, sys
from pathlib import Path
from odradek_runtime.log.port import Committed, Output, Partition, Trouble
from odradek_runtime.log.embedded import EmbeddedLog
from tests.contract.embedded.conftest import make_app
from tests.contract.station import Station, values

log = EmbeddedLog(Path(sys.argv[1]), fsync=True)
make_app(log, "app", 1)
station = Station(log, "app", 1).join().own({0})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
acknowledged = []
for n in range(200):
    value = b"%d:" % n + bytes(50_000)
    transaction = station.transaction(outputs=[Output("app.commands", 0, b"k", value)])
    station.member.commit(transaction)
    end = station.end_or_trouble(transaction.epoch)
    if isinstance(end, Trouble):
        break
    acknowledged.append(value)
assert isinstance(end, Trouble), "the limit was never hit"
assert "Free disk space" in end.message, end.message
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
end = station.end_or_trouble(transaction.epoch)
if isinstance(end, Committed):
    acknowledged.append(value)
else:
    assert end.reason == "aborted", end
assert values(log, Partition("app.commands", 0)) == acknowledged
station.committed(station.transaction(outputs=[Output("app.commands", 0, b"k", b"after")]))
assert values(log, Partition("app.commands", 0)) == [*acknowledged, b"after"]
log.close()
print(len(acknowledged))
"""


def test_a_write_that_fails_half_way_leaves_nothing_and_heals(tmp_path: Path) -> None:
    """The system refuses the write itself (a file size limit, which a full disk resembles), later there is room."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "log")],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    acknowledged = int(run.stdout)
    assert acknowledged > 3
    log = EmbeddedLog(tmp_path / "log")
    assert len(values(log, Partition("app.commands", 0))) == acknowledged + 1
    log.close()
