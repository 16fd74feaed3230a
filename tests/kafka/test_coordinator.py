"""A coordinator that is not there yet: a fresh cluster's first question about a group must not bring the process down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.broker import KafkaCluster
from tests.cli.conftest import environment

ASK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from odradek_runtime.log_kafka import KafkaLog
log = KafkaLog(sys.argv[1])
def ask(number):
    publisher = log.publisher(f"p{number}")
    publisher.close()
    return publisher.position()
with ThreadPoolExecutor(12) as pool:
    assert list(pool.map(ask, range(12))) == [0] * 12
log.close()
"""


def test_the_first_questions_about_groups_are_answered_by_a_fresh_cluster(tmp_path: Path) -> None:
    # In a process of its own, which the admin client's answer to "not coordinator" used to end with SIGSEGV.
    with KafkaCluster(tmp_path) as cluster:
        command = [sys.executable, "-c", ASK, cluster.bootstrap_servers]
        asked = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert asked.returncode == 0, asked.stderr
