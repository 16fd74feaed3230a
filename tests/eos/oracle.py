"""The driver and the judge: `org.apache.kafka.streams.tests.StreamsEosTest` of Kafka's test jar, as it is.

The verifier holds, for each partition and in order: echo (and repartition) is the committed prefix of data; min and sum (max and
cnt) have one right value for each committed record of their input; no transaction is open; the group is empty.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.broker.jars import KAFKA_VERSION, Jars

TEST = "org.apache.kafka.streams.tests.StreamsEosTest"
PASSED = "ALL-RECORDS-DELIVERED"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>odradek</groupId><artifactId>eos-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId><version>{KAFKA_VERSION}</version>
      <classifier>test</classifier></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
END_S = 60.0
VERIFY_S = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier said. `echo` is how many records of it were committed and right; `error` its first exception."""

    passed: bool
    echo: int
    error: str


class Oracle:
    """One run's drivers and its verifier, against the brokers at `servers`; their words go into `folder`."""

    def __init__(self, servers: str, folder: Path, *, complex_: bool) -> None:
        self.produced = 0
        self._jars = Jars.bring(f"kafka-streams-test-{KAFKA_VERSION}", POM)
        self._folder = folder
        self._suffix = "-complex" if complex_ else ""
        self._properties = folder / "driver.properties"
        self._properties.write_text(f"bootstrap.servers={servers}\ngroup.protocol=classic\n")
        self._drivers: list[tuple[subprocess.Popen[bytes], Path]] = []

    def command(self, heap: str, properties: Path, what: str) -> list[str]:
        """How to start StreamsEosTest."""
        return [self._jars.java, f"-Xmx{heap}", *OPTIONS, "-cp", self._jars.class_path, TEST, str(properties), what]

    def drive(self, drivers: int) -> None:
        """Begin to write into data, some 200 records a second and driver."""
        for number in range(drivers):
            log = self._folder / f"driver-{number}.log"
            with log.open("wb") as words:
                command = self.command("128m", self._properties, "run")
                self._drivers.append((subprocess.Popen(command, stdout=words, stderr=words), log))

    def rest(self) -> int:
        """Write no more; gives how many records have been written."""
        for driver, _ in self._drivers:
            driver.terminate()
        for driver, log in self._drivers:
            driver.wait(END_S)
            told = re.search(r"Producer closed: (\d+) records", log.read_text())
            assert told is not None, f"a driver did not say how many records it wrote: {log}"
            self.produced += int(told[1])
        self._drivers.clear()
        return self.produced

    def verify(self, name: str = "verify") -> Verdict:
        """Let the verifier judge all that is committed so far."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as words:
            command = self.command("512m", self._properties, f"verify{self._suffix}")
            subprocess.run(command, stdout=words, stderr=words, timeout=VERIFY_S, check=False)
        lines = log.read_text().splitlines()
        echo = sum(int(n) for n in re.findall(r"^echo-\d+ with (\d+), data-\d+ with \d+$", "\n".join(lines), re.MULTILINE))
        passed = PASSED in lines
        return Verdict(passed, echo, "" if passed else next((line for line in lines if "Exception" in line), lines[-1])[:400])

    def processor(self, properties: Path) -> list[str]:
        """How to start Kafka Streams' own processor."""
        return self.command("256m", properties, f"process{self._suffix}")

    def close(self) -> None:
        """End the drivers that still run."""
        for driver, _ in self._drivers:
            driver.kill()
            driver.wait()
