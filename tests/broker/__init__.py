"""A real Kafka for tests, demos and benches, on this machine and without Docker.

Stands at the far end of every record's journey: the brokers that `log.read` reads and `log.commit` writes.

    with running_broker() as bootstrap_servers: ...            # whatever Kafka there is, else one of our own
    with KafkaCluster(directory, brokers=3) as cluster: ...    # our own, to be killed, frozen and cut off
"""

from tests.broker.cluster import KafkaCluster
from tests.broker.jars import KafkaJars
from tests.broker.process import BrokerFailedError
from tests.broker.proxy import END_TXN, HeldFrame, TcpProxy
from tests.broker.source import running_broker
from tests.broker.topics import create_topics

__all__ = [
    "END_TXN",
    "BrokerFailedError",
    "HeldFrame",
    "KafkaCluster",
    "KafkaJars",
    "TcpProxy",
    "create_topics",
    "running_broker",
]
