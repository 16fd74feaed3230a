"""A coordinator that is not there yet: a fresh cluster's first question about a group must not bring the process down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.broker import KafkaCluster
from tests.cli.conftest import environment

ASK = """
import sys
from odradek_runtime.log_kafka import KafkaLog
log = KafkaLog(sys.argv[1])
for number in range(3):
    publisher = log.publisher(f"p{number}")
    assert publisher.position() == 0
    publisher.close()
log.close()
"""


def test_the_first_question_about_a_group_is_answered_by_a_fresh_cluster(tmp_path: Path) -> None:
    # In a process of its own, which the admin client's answer to "not coordinator" ended with SIGSEGV in some of the runs.
    for number in range(3):
        with KafkaCluster(tmp_path / str(number)) as cluster:
            command = [sys.executable, "-c", ASK, cluster.bootstrap_servers]
            asked = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=90)
        assert asked.returncode == 0, asked.stderr
