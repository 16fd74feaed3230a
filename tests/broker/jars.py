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
class Jars:
    """What one POM asks for, in a folder of the cache."""

    directory: Path
    java: str

    @property
    def class_path(self) -> str:
        return f"{self.directory}/*"

    @classmethod
    def bring(cls, name: str, pom: str, cache: Path | None = None) -> "Jars":
        """Return the jars, fetching them first if they are not there, or were of another POM.

        Args:
            name: of their folder in the cache.
            pom: the Maven project whose runtime dependencies they are.
            cache: the folder to keep them in; `.cache/` of the project, or `ODRADEK_TEST_CACHE`, by default.

        Raises:
            RuntimeError: Java or Maven is missing, or Maven failed; says which and what to do.
        """
        java = _executable("java", "install a Java 17 runtime, or set KAFKA_BOOTSTRAP_SERVERS to use a running Kafka")
        default = os.environ.get("ODRADEK_TEST_CACHE") or PROJECT_ROOT / ".cache"
        home = (cache or Path(default)) / name
        jars = cls(directory=home / "libs", java=java)
        if not jars._are_of(pom):
            home.mkdir(parents=True, exist_ok=True)
            with (home / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # parallel runs share the cache: only one of them fetches
                if not jars._are_of(pom):
                    jars._fetch(home, pom)
        return jars

    def _are_of(self, pom: str) -> bool:
        return (self.directory / "pom.xml").is_file() and (self.directory / "pom.xml").read_text() == pom

    def _fetch(self, home: Path, pom: str) -> None:
        maven = _executable("mvn", "install Maven, or set KAFKA_BOOTSTRAP_SERVERS to use a running Kafka")
        incoming = home / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        project = incoming / "pom.xml"
        project.write_text(pom)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={incoming}"]
        ran = subprocess.run(
            [maven, "-q", "-B", "-f", str(project), *goal],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            raise RuntimeError(f"Maven could not fetch {home.name} ({ran.returncode}):\n{ran.stdout[-4000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)
        incoming.rename(self.directory)  # at once, with pom.xml in it as the mark of completeness


class KafkaJars:
    """The Kafka server and all it needs to run (45 MB, some ten seconds the first time)."""

    @staticmethod
    def ensure(cache: Path | None = None) -> Jars:
        """As `Jars.bring`."""
        return Jars.bring(f"kafka-{KAFKA_VERSION}", POM, cache)


def _executable(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not on the PATH: {remedy}")
    return found
