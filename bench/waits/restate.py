"""Restate: its server from npm, which ships the program inside a package, and its Python SDK under hypercorn, one process.

Installed into folders of their own below bench/; the server keeps its log in the run's folder and writes it through to the
disk, as it does by default.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contenders import BENCH, Run, names, started
from bench.waits.install import install_python, run_quietly
from bench.waits.site import Site, Unavailable, Work, answers, order, until
from tests.broker.ports import PortLease

SERVER_VERSION = "1.7.12"
VENV = BENCH / ".venv-restate"
SERVER = BENCH / ".venv-restate" / "server"
PACKAGES = ("restate-sdk==1.3.0", "hypercorn==0.18.0", "confluent-kafka==2.16.1")
PLATFORMS = {("Linux", "x86_64"): "linux-x64", ("Linux", "aarch64"): "linux-arm64", ("Darwin", "arm64"): "darwin-arm64"}

CONFIG = """
disable-telemetry = true
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {node}
log-filter = "warn"
log-disable-ansi-codes = true

[admin]
bind-port = {admin}

[ingress]
bind-port = {ingress}

[[ingress.kafka-clusters]]
name = "bench"
brokers = ["PLAINTEXT://{kafka}"]
"""


class Restate:
    """Restate's server and one process of handlers."""

    name = "restate"
    title = f"Restate {SERVER_VERSION}"
    works = frozenset({Work.HTTP, Work.IN_FLIGHT, Work.EVENTS})
    counted = True
    own_log = False

    def build(self) -> None:
        """Install the server and the SDK.

        Raises:
            Unavailable: there is no npm, no package for this machine, or no registry that answers.
        """
        package = PLATFORMS.get((platform.system(), platform.machine()))
        if package is None or shutil.which("npm") is None:
            raise Unavailable(f"Restate's server comes by npm, for {', '.join(PLATFORMS.values())}")
        install_python(VENV, PACKAGES)
        if not server().exists():
            SERVER.mkdir(exist_ok=True)
            name = f"@restatedev/restate-server-{package}@{SERVER_VERSION}"
            run_quietly(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(SERVER), name])

    @contextmanager
    def serving(self, run: Run, work: Work) -> Iterator[Site]:
        """Start both, make the server know the handlers and, for events, the topic."""
        ingress, admin, node, handlers = (PortLease.take() for _ in range(4))
        config = run.directory / "restate.toml"
        config.write_text(
            CONFIG.format(ingress=ingress.port, admin=admin.port, node=node.port, kafka=run.bootstrap_servers)
        )
        serve = [str(server()), "--config-file", str(config), "--base-dir", str(run.directory / "restate"), "--no-logo"]
        answer = [
            str(VENV / "bin" / "hypercorn"), "--bind", f"127.0.0.1:{handlers.port}", "--workers", "1", "--log-level", "error",
            "bench.peers.restate_app:app",
        ]  # fmt: skip
        environment = {**os.environ, **names(run), "PYTHONPATH": str(BENCH.parent)}
        if work is not Work.HTTP:
            environment["BENCH_BOOTSTRAP_SERVERS"] = run.bootstrap_servers
        with (
            started(answer, run.directory / "handlers.log", environment) as answering,
            started(serve, run.log, os.environ) as serving,
        ):
            site = Site(ingress.port, [serving, answering])
            until(lambda: answers(f"http://127.0.0.1:{admin.port}/health"), "Restate's admin port", site)
            until(lambda: listens(handlers.port), "hypercorn", site)
            order(f"http://127.0.0.1:{admin.port}/deployments", {"uri": f"http://127.0.0.1:{handlers.port}"}, site)
            until(lambda: answers(f"http://127.0.0.1:{ingress.port}/restate/health"), "Restate's ingress", site)
            if work is not Work.HTTP:
                subscription: dict[str, object] = {
                    "source": f"kafka://bench/{run.input}", "sink": "service://customer/on_event",
                    "options": {"auto.offset.reset": "earliest", "group.id": run.group},
                }  # fmt: skip
                order(f"http://127.0.0.1:{admin.port}/subscriptions", subscription, site)
            yield site
        for lease in (ingress, admin, node, handlers):
            lease.release()


def server() -> Path:
    """The server's program, wherever npm has put it."""
    package = PLATFORMS.get((platform.system(), platform.machine()), "none")
    return SERVER / "node_modules" / "@restatedev" / f"restate-server-{package}" / "bin" / "restate-server"


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
