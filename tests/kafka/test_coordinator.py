"""A coordinator that is not there yet, or for a while: questions about a group must neither end the process nor stand for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import KafkaCluster
from tests.cli.conftest import environment
from tests.kafka.raw import eventually

pytestmark = pytest.mark.faults

ASK_OFFSETS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from odradek_runtime.log.kafka import KafkaLog
log = KafkaLog(sys.argv[1])
def ask(number):
    publisher = log.publisher(f"p{number}")
    publisher.close()
    return publisher.position()
with ThreadPoolExecutor(12) as pool:
    assert list(pool.map(ask, range(12))) == [0] * 12
log.close()
"""

ASK_MEMBERS = """
import sys
from odradek_runtime.log.port import LogError
from odradek_runtime.log.kafka import KafkaLog
log = KafkaLog(sys.argv[1], request_timeout_s=4.0)
for line in sys.stdin:
    try:
        print(len(log.peers("app")), flush=True)
    except LogError as error:
        print(error, flush=True)
log.close()
"""


def test_the_first_questions_about_groups_are_answered_by_a_fresh_cluster(tmp_path: Path) -> None:
    # In a process of its own, which the admin client's answer to "not coordinator" used to end with SIGSEGV.
    with KafkaCluster(tmp_path) as cluster:
        command = [sys.executable, "-c", ASK_OFFSETS, cluster.bootstrap_servers]
        asked = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert asked.returncode == 0, asked.stderr


def test_who_is_in_a_group_may_be_asked_while_its_coordinator_is_away(tmp_path: Path) -> None:
    # A question that had timed out used to end the process when the coordinator came back (librdkafka #4605).
    with KafkaCluster(tmp_path) as cluster:
        command = [sys.executable, "-c", ASK_MEMBERS, cluster.bootstrap_servers]
        with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
            assert _ask(asking) == "0"
            cluster.kill(1)
            assert "cannot be reached" in _ask(asking)
            cluster.restart(1)
            eventually(lambda: _ask(asking) == "0")
            asking.communicate(timeout=30)
    assert asking.returncode == 0


def _ask(asking: subprocess.Popen[str]) -> str:
    assert asking.stdin is not None and asking.stdout is not None
    asking.stdin.write("?\n")
    asking.stdin.flush()
    return asking.stdout.readline().strip()
