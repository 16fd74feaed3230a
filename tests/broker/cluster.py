"""A cluster of one to three brokers on loopback: KRaft, each node broker and controller; quick to start and to hurt.

Stands at the far end of every record's journey. It is real Kafka: the same code as in production, with small settings.
"""

import base64
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.broker.jars import KafkaJars
from tests.broker.ports import PortLease
from tests.broker.process import BrokerFailedError, BrokerProcess
from tests.broker.proxy import TcpProxy

START_TIMEOUT_S = 90.0
JVM_OPTIONS = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""A short heap and no optimising compiler: a broker that lives for a minute is up sooner and leaves tests the cores."""
BENCH_JVM_OPTIONS = ("-Xmx1g", "-Xms1g")
"""As one would run a broker under load."""


@dataclass(frozen=True, slots=True)
class _Node:
    """One broker's fixed surroundings: they outlive its process."""

    id: int
    plain: PortLease
    controller: PortLease
    inner: PortLease | None  # the listener behind the proxy
    proxy: TcpProxy | None
    process: BrokerProcess
    directory: Path

    def leases(self) -> list[PortLease]:
        return [lease for lease in (self.plain, self.controller, self.inner) if lease is not None]


class KafkaCluster:
    """One to three Kafka brokers in processes of this machine.

    As a context manager it starts on entry; on exit all brokers are killed, which is quick (the directory stays).

    Args:
        directory: storage, settings and logs of all brokers; kept. A cluster started again on it has its data again.
        brokers: how many; they are numbered from 1.
        properties: server.properties of every broker, over the ones chosen here,
            such as `{"offsets.retention.minutes": 1, "offsets.retention.check.interval.ms": 5000}`.
        proxied: put a `TcpProxy` before each broker: see `proxies` and `proxied_bootstrap_servers`.
        jvm_options: of each broker; `BENCH_JVM_OPTIONS` for throughput.
        outlives_parent: leave the brokers running when this Python process ends.
        ports: where the brokers should listen, by their order; another port where one of these is taken.

    Example:
        with KafkaCluster(tmp_path, brokers=3) as cluster:
            producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
            cluster.kill(2)
            cluster.restart(2)
    """

    def __init__(
        self,
        directory: Path,
        *,
        brokers: int = 1,
        properties: Mapping[str, str | int | bool] | None = None,
        proxied: bool = False,
        jvm_options: Sequence[str] = JVM_OPTIONS,
        outlives_parent: bool = False,
        ports: Sequence[int] = (),
    ) -> None:
        self.directory = directory
        self._properties = dict(properties or {})
        jars = KafkaJars.ensure()
        self._nodes: dict[int, _Node] = {}
        for node_id in range(1, brokers + 1):
            home = directory / f"broker-{node_id}"
            home.mkdir(parents=True, exist_ok=True)
            files = home / "server.properties", home / "server.log"
            process = BrokerProcess(jars, *files, jvm_options, outlives_parent)
            inner = PortLease.take() if proxied else None
            proxy = TcpProxy("127.0.0.1", inner.port) if inner is not None else None
            plain = PortLease.take(ports[node_id - 1] if len(ports) >= node_id else None)
            controller = PortLease.take()
            self._nodes[node_id] = _Node(node_id, plain, controller, inner, proxy, process, home)

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all brokers, as clients want them."""
        return ",".join(f"127.0.0.1:{node.plain.port}" for node in self._nodes.values())

    @property
    def proxies(self) -> dict[int, TcpProxy]:
        """The proxy before each broker, by the broker's number; empty unless `proxied`."""
        return {node.id: node.proxy for node in self._nodes.values() if node.proxy is not None}

    @property
    def proxied_bootstrap_servers(self) -> str:
        """The same cluster through the proxies: a client that starts here is led by the metadata to proxies only.

        Raises:
            ValueError: the cluster was made without `proxied=True`.
        """
        if not self.proxies:
            raise ValueError("this cluster has no proxies: make it with proxied=True")
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies.values())

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the running brokers, by broker number."""
        return {node.id: node.process.pid for node in self._nodes.values() if node.process.alive}

    def start(self) -> None:
        """Format what is not formatted yet, start all brokers, and wait until the cluster serves.

        Raises:
            BrokerFailedError: with the end of the log of the broker that is to blame.
        """
        # The first byte is fixed: an id that began with "-" (one in 64) would be taken for an option.
        cluster_id = base64.urlsafe_b64encode(b"o" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        try:
            for node in self._nodes.values():
                _write_properties(node.directory / "server.properties", self._settings(node))
            unformatted = [n for n in self._nodes.values() if not (n.directory / "data" / "meta.properties").exists()]
            for node, formatting in [(node, node.process.format(cluster_id)) for node in unformatted]:
                node.process.ended(formatting)
            for node in self._nodes.values():
                node.process.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every running broker is in the metadata and a controller is elected.

        Raises:
            BrokerFailedError: a broker died meanwhile, or the time is over.
        """
        running = [node for node in self._nodes.values() if node.process.alive]
        if not running:
            raise BrokerFailedError("no broker runs")
        addresses = ",".join(f"127.0.0.1:{node.plain.port}" for node in running)
        admin = AdminClient({"bootstrap.servers": addresses, "log_level": 0, "reconnect.backoff.max.ms": 200})
        wanted = {node.id for node in running}
        deadline = time.monotonic() + timeout_s

        def serving() -> bool:
            for node in running:
                if not node.process.alive:
                    raise BrokerFailedError(f"broker {node.id} died while starting.\n{node.process.tail()}")
            try:
                metadata = admin.list_topics(timeout=0.25)
            except KafkaException:
                return False
            return wanted <= set(metadata.brokers or {}) and (metadata.controller_id or -1) >= 0

        if not _poll(serving, deadline):
            tails = "\n".join(node.process.tail() for node in running)
            raise BrokerFailedError(f"brokers {sorted(wanted)} do not serve after {timeout_s:.0f} s.\n{tails}")

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut all brokers down in good order (SIGTERM); those that take longer than `timeout_s` are killed."""
        for node in self._nodes.values():
            node.process.terminate()
        deadline = time.monotonic() + timeout_s
        for node in self._nodes.values():
            if not node.process.wait(max(0.0, deadline - time.monotonic())):
                node.process.kill()

    def close(self) -> None:
        """Kill all brokers and give the ports back."""
        for node in self._nodes.values():
            node.process.kill()
            if node.proxy is not None:
                node.proxy.close()
            for lease in node.leases():
                lease.release()

    def kill(self, broker_id: int) -> None:
        """SIGKILL one broker, and wait until it is gone."""
        self._nodes[broker_id].process.kill()

    def suspend(self, broker_id: int) -> None:
        """SIGSTOP one broker: its connections stay open and nothing is answered."""
        self._nodes[broker_id].process.suspend()

    def resume(self, broker_id: int) -> None:
        """SIGCONT a suspended broker."""
        self._nodes[broker_id].process.resume()

    def restart(self, broker_id: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start one broker again on its old data and ports (killing it first if it runs), and wait until it serves.

        Raises:
            BrokerFailedError: it does not come up; the message ends with its log.
        """
        self.kill(broker_id)
        self._nodes[broker_id].process.start()
        self.wait_ready(timeout_s)

    def log_tail(self, broker_id: int, lines: int = 40) -> str:
        """The last lines of one broker's log."""
        return self._nodes[broker_id].process.tail(lines)

    def __enter__(self) -> "KafkaCluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settings(self, node: _Node) -> dict[str, str | int | bool]:
        replicas = min(3, len(self._nodes))
        listeners = {"PLAIN": node.plain.port, "CONTROLLER": node.controller.port}
        advertised = {"PLAIN": node.plain.port}
        if node.inner is not None and node.proxy is not None:
            listeners["PROXY"] = node.inner.port
            advertised["PROXY"] = node.proxy.port
        return {
            "process.roles": "broker,controller",
            "node.id": node.id,
            "controller.quorum.voters": ",".join(f"{n.id}@127.0.0.1:{n.controller.port}" for n in self._nodes.values()),
            "controller.listener.names": "CONTROLLER",
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": str(node.directory / "data"),
            "default.replication.factor": replicas,
            "min.insync.replicas": min(2, replicas),
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": min(2, replicas),
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": min(2, replicas),
            "group.initial.rebalance.delay.ms": 0,
            "broker.heartbeat.interval.ms": 500,
            # For this long a killed broker stays the leader, and its restart is refused:
            "broker.session.timeout.ms": 4000,
            "log.retention.ms": -1,  # tests write records with times of years ago, which the default, a week, has deleted
            "log.cleaner.dedupe.buffer.size": 16_777_216,  # the default, 128 MB, is a quarter of the heap
            "num.network.threads": 2,
            "num.io.threads": 4,
            **self._properties,
        }


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())


def _write_properties(path: Path, settings: Mapping[str, str | int | bool]) -> None:
    lines = [f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in settings.items()]
    path.write_text("\n".join(lines) + "\n")


def _poll(condition: Callable[[], bool], deadline: float, interval_s: float = 0.05) -> bool:
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
    return True
