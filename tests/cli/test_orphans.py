"""The first process of a container takes the exit status of what a killed worker leaves behind, and of nothing else."""

import subprocess
import sys

import pytest

# A process that inherits orphans, as the first one of a container does. It starts a worker that is killed and leaves a process
# behind, and another whose own exit status must stay for whoever waits for it.
SCRIPT = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from odradek_runtime.cli.supervisor import reap_orphans

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
leave = "import subprocess, sys; print(subprocess.Popen(['sleep', '0.3']).pid, flush=True); sys.stdin.read()"
killed = subprocess.Popen([sys.executable, "-c", leave], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
orphan = int(killed.stdout.readline())
killed.kill()
killed.wait()

def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"

def wait_for(pid, wanted):
    end_s = time.monotonic() + 30
    while state(pid) != wanted:
        assert time.monotonic() < end_s, (state(pid), wanted)
        time.sleep(0.01)

wait_for(orphan, "Z")
reap_orphans({killed.pid})
assert state(orphan) == "gone"

worker = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
wait_for(worker.pid, "Z")
reap_orphans({worker.pid})
assert worker.wait() == 7
reap_orphans(set())  # there is nothing at all to wait for
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a container's first process is one of Linux")
def test_orphans_are_reaped_and_workers_are_not() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
