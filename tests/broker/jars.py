"""The jars of Kafka: brought by Maven once, kept in the project's cache folder.

Before any record: a broker process needs a class path.
"""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KAFKA_VERSION = "4.1.0"
PROJECT_ROOT = Path(__file__).resolve().parents[2]

# slf4j-simple is not among Kafka's dependencies; without it the server logs nothing, not even why a start failed.
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>odradek</groupId><artifactId>broker-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class KafkaJars:
    """A folder with the Kafka server and all it needs to run."""

    directory: Path
    java: str

    @property
    def class_path(self) -> str:
        return f"{self.directory}/*"

    @classmethod
    def ensure(cls, cache: Path | None = None) -> "KafkaJars":
        """Return the jars, fetching them first if they are not there (45 MB, some ten seconds).

        Args:
            cache: the folder to keep them in; `.cache/` of the project, or `ODRADEK_TEST_CACHE`, by default.

        Raises:
            RuntimeError: Java or Maven is missing, or Maven failed; says which and what to do.
        """
        java = _executable("java", "install a Java 17 runtime, or set KAFKA_BOOTSTRAP_SERVERS to use a running Kafka")
        default = os.environ.get("ODRADEK_TEST_CACHE") or PROJECT_ROOT / ".cache"
        home = (cache or Path(default)) / f"kafka-{KAFKA_VERSION}"
        jars = cls(directory=home / "libs", java=java)
        if not jars._complete():
            home.mkdir(parents=True, exist_ok=True)
            with (home / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # parallel runs share the cache: only one of them fetches
                if not jars._complete():
                    jars._fetch(home)
        return jars

    def _complete(self) -> bool:
        return (self.directory / "pom.xml").is_file() and (self.directory / "pom.xml").read_text() == POM

    def _fetch(self, home: Path) -> None:
        maven = _executable("mvn", "install Maven, or set KAFKA_BOOTSTRAP_SERVERS to use a running Kafka")
        incoming = home / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        pom = incoming / "pom.xml"
        pom.write_text(POM)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={incoming}"]
        ran = subprocess.run(
            [maven, "-q", "-B", "-f", str(pom), *goal],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            raise RuntimeError(f"Maven could not fetch Kafka {KAFKA_VERSION} ({ran.returncode}):\n{ran.stdout[-4000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)
        incoming.rename(self.directory)  # at once, with pom.xml in it as the mark of completeness


def _executable(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not on the PATH: {remedy}")
    return found
