"""One broker as an operating-system process: started, killed, frozen, thawed; its log is its own file.

Stands under `KafkaCluster`, which knows what to write into server.properties.
"""

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.broker.jars import Jars

LOGGING = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
]
STOPS_S = 10.0
# Reads until its input ends, which is when the process that opened it is gone, however it died; then kills the broker.
WATCHDOG = 'read -r _; kill -9 "$1"'


class BrokerFailedError(Exception):
    """A broker did not come up or went away on its own; the message ends with its log's last lines."""


class BrokerProcess:
    """The JVM of one broker, in a session of its own so that Ctrl-C in a terminal does not reach it.

    Args:
        jars: the class path and the Java to run it with.
        properties_file: the broker's server.properties.
        log_file: takes everything the process prints, appended over restarts.
        jvm_options: heap size and the like.
        outlives_parent: leave the broker running when the process that started it ends.
    """

    def __init__(
        self, jars: Jars, properties_file: Path, log_file: Path, jvm_options: Sequence[str], outlives_parent: bool
    ) -> None:
        self.log_file = log_file
        self._jars = jars
        self._properties_file = properties_file
        self._jvm_options = list(jvm_options)
        self._outlives_parent = outlives_parent
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            BrokerFailedError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise BrokerFailedError(f"the broker does not run.\n{self.tail()}")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def format(self, cluster_id: str) -> subprocess.Popen[bytes]:
        """Begin to lay out empty storage; the caller waits for it (`ended` judges the outcome)."""
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties_file)]
        return self._java(["-Xmx128m", "-XX:TieredStopAtLevel=1"], arguments)

    def ended(self, formatting: subprocess.Popen[bytes]) -> None:
        """Wait for `format` to end.

        Raises:
            BrokerFailedError: the storage could not be laid out.
        """
        if formatting.wait() != 0:
            raise BrokerFailedError(f"formatting the storage failed ({formatting.returncode}).\n{self.tail()}")

    def start(self) -> None:
        """Start the JVM; returns at once, long before the broker serves."""
        if self.alive:
            raise BrokerFailedError(f"the broker runs already, as process {self.pid}")
        self._process = self._java(self._jvm_options, ["kafka.Kafka", str(self._properties_file)])
        if not self._outlives_parent:
            self._watchdog = subprocess.Popen(
                ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self._process.pid)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL, which a frozen process obeys too, and wait until it is gone; harmless when it is gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._dismiss_watchdog()

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process to end; False if it has not within the time."""
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
        self._dismiss_watchdog()
        return True

    def suspend(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing, from when this returns."""
        self._signal(signal.SIGSTOP)
        deadline_s = time.monotonic() + STOPS_S
        while not self._stands_still():
            if time.monotonic() > deadline_s:
                raise BrokerFailedError(f"the broker has not stopped {STOPS_S} s after SIGSTOP")
            time.sleep(0.001)

    def _stands_still(self) -> bool:
        """Whether each of its threads has stopped: a signal reaches those on other processors a moment later."""
        assert self._process is not None, "it was sent a signal"
        threads = Path(f"/proc/{self._process.pid}/task")
        states = [path.read_text().rpartition(")")[2].split()[0] for path in threads.glob("*/stat")]
        return all(state in "Tt" for state in states)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def tail(self, lines: int = 40) -> str:
        """The last lines of the broker's log, under a heading."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else "(no log was written)"
        return "\n".join([f"--- the end of {self.log_file} ---", *text.splitlines()[-lines:]])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not self.alive:
            raise BrokerFailedError(f"no {number.name}: the broker does not run.\n{self.tail()}")
        self._process.send_signal(number)

    def _java(self, options: Sequence[str], arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [self._jars.java, *options, *LOGGING, "-cp", self._jars.class_path, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _dismiss_watchdog(self) -> None:
        # Killed before its input is closed: the pid that it guards may belong to somebody else by now.
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            if self._watchdog.stdin is not None:
                with suppress(OSError):
                    self._watchdog.stdin.close()
            self._watchdog = None
