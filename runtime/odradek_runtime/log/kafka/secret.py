"""The secret by which an app's workers know each other: one random record in a topic of the app's own, made by the first worker.

Read when a worker starts, and again when somebody's token does not fit. Who may read the topic passes for a worker of the app.
"""

from __future__ import annotations

import secrets
import time

from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.errors import PRODUCER_FENCED, cause, log_error
from odradek_runtime.log.kafka.scanner import Scanner
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Partition

KEY = b"secret"
LEAST_BYTES = 16
"""A shorter one could be guessed: such a record is left out."""
TRIES = 20
AGAIN_S = 0.25
TRANSACTION_S = 10.0
_OVERTAKEN = PRODUCER_FENCED | {KafkaError.CONCURRENT_TRANSACTIONS}


class SharedSecret:
    """Of one app. Blocking, safe from any thread. Every method raises LogError, with the ways out.

    The last record of the topic is the secret, so that a newer one takes its place.
    """

    def __init__(self, app: str, clients: Clients, cluster: Cluster, scanner: Scanner, trouble: TroubleReporter) -> None:
        self._at = Partition(f"{app}.secret", 0)
        self._writer = f"{app}-secret"
        self._clients = clients
        self._cluster = cluster
        self._scanner = scanner
        self._trouble = trouble

    def get(self) -> bytes:
        """What stands in the topic; the topic and the secret are made where there is none."""
        try:
            self._cluster.create_topic(self._at.topic, 1, {"cleanup.policy": "compact"})
            return self._read() or self._made()
        except LogError as error:
            raise LogError(
                f"the secret that the app's workers share, in topic {self._at.topic}, cannot be had: {error}. Ways out: let the "
                "app make, read and write that topic (one partition, cleanup.policy=compact) · give all workers the same "
                "private_token",
                retriable=error.retriable,
                refusal=error.refusal,
            ) from error

    def _read(self) -> bytes | None:
        bounds = (self._cluster.offset(self._at, "first"), self._cluster.offset(self._at, "end"))
        values = [message.value() or b"" for batch in self._scanner.scan(self._at, *bounds) for message in batch]
        return next((value for value in reversed(values) if len(value) >= LEAST_BYTES), None)

    def _made(self) -> bytes:
        for _ in range(TRIES):
            made = self._make()
            if made is not None:
                return made
            time.sleep(AGAIN_S)
        raise LogError("other workers began to write it, again and again, and none has")

    def _make(self) -> bytes | None:
        """Write one, unless another worker has: whoever opens the writer ends what others had begun, and looks again.

        None: another worker has opened it meanwhile.
        """
        options = {"transaction.timeout.ms": int(TRANSACTION_S * 1000)}
        producer = self._clients.producer(self._writer, options, self._trouble.error)
        try:
            producer.init_transactions(TRANSACTION_S)
            found = self._read()
            if found is not None:
                return found
            made = secrets.token_hex(32).encode()
            producer.begin_transaction()
            producer.produce(self._at.topic, made, KEY, self._at.partition)
            producer.commit_transaction(TRANSACTION_S)
        except KafkaException as failure:
            error = cause(failure)
            if error.code() in _OVERTAKEN:
                return None
            raise log_error(error, self._clients.servers, f"writing to topic {self._at.topic!r}") from None
        else:
            return made
        finally:
            producer.purge()
