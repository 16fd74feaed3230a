"""A request to stop is heard whenever its signal comes: while one waits for it, begins to, or is just done."""

import subprocess
import sys

# A timer's signal asks again and again, in the very thread that waits; a handler that waits for what its own thread holds
# stands still within a few hundred of them.
SCRIPT = """
import signal
from odradek_runtime.cli.stop import StopRequest

SIGNALS = 20_000
asked = 0
requests = [StopRequest()]

def ask(_number, _frame):
    global asked
    asked += 1
    requests[-1].make()

signal.signal(signal.SIGALRM, ask)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
while asked < SIGNALS:
    while not requests[-1].wait(0.00005):
        pass
    requests.append(StopRequest())
signal.setitimer(signal.ITIMER_REAL, 0)
requests[-1].make()
assert requests[-1].wait(60.0)
"""


def test_a_signal_in_the_midst_of_a_wait_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
