"""DBOS: its Python library and a web app in one process, on a PostgreSQL that is started for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bench.contenders import BENCH, Run, names, started
from bench.waits.install import install_python
from bench.waits.postgres import programs, running_postgres
from bench.waits.site import Site, Work, answers, until
from tests.broker.ports import PortLease

VERSION = "3.4.0"
VENV = BENCH / ".venv-dbos"
PACKAGES = (f"dbos=={VERSION}", "uvicorn", "httptools", "uvloop", "starlette", "confluent-kafka==2.16.1")


class Dbos:
    """One process of workflows, and its database."""

    name = "dbos"
    title = f"DBOS {VERSION}, PostgreSQL"
    works = frozenset({Work.HTTP, Work.IN_FLIGHT, Work.EVENTS})
    counted = False
    own_log = False

    def build(self) -> None:
        """Install the library.

        Raises:
            Unavailable: it cannot be had, or there is no PostgreSQL.
        """
        programs()
        install_python(VENV, PACKAGES)

    @contextmanager
    def serving(self, run: Run, work: Work) -> Iterator[Site]:
        """Start the database, then the app; ready when its HTTP answers."""
        port = PortLease.take()
        with running_postgres(run.directory / "postgres.log") as (url, database):
            environment = {**os.environ, **names(run), "BENCH_DATABASE": url, "BENCH_PORT": str(port.port)}
            if work is not Work.HTTP:
                environment["BENCH_BOOTSTRAP_SERVERS"] = run.bootstrap_servers
            environment.pop("PYTHONPATH", None)
            command = [str(VENV / "bin" / "python"), str(BENCH / "peers" / "dbos_app.py")]
            with started(command, run.log, environment) as process:
                site = Site(port.port, [process, database])
                until(lambda: answers(f"http://127.0.0.1:{port.port}/health"), "DBOS", site)
                yield site
        port.release()
