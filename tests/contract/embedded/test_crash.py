"""kill -9: every acknowledged commit is there afterwards, and none of them is torn."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Partition
from tests.contract.station import content, values

VICTIM = """
import sys
from pathlib import Path
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.log.embedded import EmbeddedLog
from tests.contract.embedded.conftest import make_app
from tests.contract.station import Station

log = EmbeddedLog(Path(sys.argv[1]), fsync=sys.argv[2] == "fsync")
make_app(log, "app", 2)
log.create_topic("out", 4, {})
station = Station(log, "app", 2).join().own({0, 1})
for epoch in range(1, 1_000_000):
    outputs = [Output("out", n % 4, b"k", b"%d" % epoch) for n in range(100)]
    transaction = station.transaction([0, 1], outputs, offsets={Partition("app.commands", 0): epoch})
    transaction.state[1] = [(b"k%d" % n, b"%d" % epoch) for n in range(10)]
    transaction.journal[0] = [(b"j", b"%d" % epoch)]
    station.committed(transaction)
    sys.stdout.write(f"{epoch}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("fsync", ["fsync", "lazy"])
def test_a_killed_process_loses_no_acknowledged_commit_and_tears_none(tmp_path: Path, fsync: str) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(tmp_path / "log"), fsync],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    acknowledged = 0
    for line in victim.stdout:
        acknowledged = int(line)
        if acknowledged == 60:
            os.kill(victim.pid, signal.SIGKILL)
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    assert acknowledged >= 60

    log = EmbeddedLog(tmp_path / "log")
    committed = log.committed("app", Partition("app.commands", 0))

    assert committed in (acknowledged, acknowledged + 1)
    expected = [b"%d" % epoch for epoch in range(1, committed + 1)]
    for partition in range(4):
        assert values(log, Partition("out", partition)) == [text for text in expected for _ in range(25)]
    assert values(log, Partition("app.journal", 0))[-1] == expected[-1]
    assert [m.value() for m in content(log, Partition("app.state", 1))][-10:] == [expected[-1]] * 10
    log.close()
