"""librdkafka clients of every kind, with the options that this log needs and the operator's own over them.

Stands before everything that talks to the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from odradek_runtime.log.kafka.confluent import AdminApi, ConsumerClient, ProducerClient
from odradek_runtime.log.kafka.errors import cause
from odradek_runtime.log.kafka.trouble import LibraryLog
from odradek_runtime.log.port import LogError

OURS = frozenset(
    {"group.id", "transactional.id", "enable.auto.commit", "isolation.level", "allow.auto.create.topics", "partitioner"}
)
"""Options on which exactly-once stands: they cannot be passed through."""

LARGEST_REQUEST_BYTES = 64 * 1024 * 1024
"""Below the broker's socket.request.max.bytes, so that a record too large for its topic is answered, not cut off."""

LARGEST_BATCH_BYTES = 512 * 1024 * 1024
"""What a batch may have once it is decompressed: a consumer that meets a larger one gets no further in its partition."""

ErrorCallback = Callable[[KafkaError], None]
Options = Mapping[str, str | int | float | bool]


class Clients:
    """Makes clients of one cluster.

    Args:
        servers: `host:port,…`.
        options: librdkafka options passed through, over ours.
    """

    def __init__(self, servers: str, options: Mapping[str, str]) -> None:
        forbidden = sorted(OURS & set(options))
        if forbidden:
            raise LogError(
                f"Kafka option {forbidden[0]!r} cannot be set: exactly-once depends on the value odradek gives it",
                retriable=False,
            )
        self.servers = servers
        self.options = dict(options)

    def consumer(self, group: str, options: Options, on_error: ErrorCallback) -> ConsumerClient:
        """A consumer that commits nothing on its own and reads only what is committed."""
        config = {
            **self._common(),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "receive.message.max.bytes": LARGEST_BATCH_BYTES,
            **options,
        }
        return cast("ConsumerClient", self._make(Consumer, config, on_error))

    def producer(
        self, transactional_id: str, options: Options, on_error: ErrorCallback, log: LibraryLog | None = None
    ) -> ProducerClient:
        """A transactional producer, not yet initialised."""
        config = {
            **self._common(),
            "transactional.id": transactional_id,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": LARGEST_REQUEST_BYTES,
            "topic.metadata.propagation.max.ms": 5_000,
            "retry.backoff.ms": 1,  # the wait for the previous transaction's markers: 8 ms a commit instead of 27
            **options,
        }
        return cast("ProducerClient", self._make(Producer, config, on_error, log))

    def admin(self, on_error: ErrorCallback) -> AdminApi:
        """An admin client."""
        return cast("AdminApi", self._make(AdminClient, {**self._common(), "log_level": 3}, on_error))

    def _common(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.servers,
            "client.id": "odradek",
            "allow.auto.create.topics": False,  # librdkafka's producers, and so its admin clients, create by default
            "enable.metrics.push": False,
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 2_000,
        }

    def _make(
        self,
        factory: Callable[..., object],
        config: dict[str, Any],
        on_error: ErrorCallback,
        log: LibraryLog | None = None,
    ) -> object:
        debug = [topic for topic in (config.get("debug"), self.options.get("debug")) if topic]
        merged: dict[str, Any] = {**config, **self.options, "error_cb": on_error}
        if debug:
            merged["debug"] = ",".join(debug)
        try:
            return factory(merged, logger=log or LibraryLog())
        except KafkaException as error:
            raise self._refused(cause(error).str()) from None
        except (TypeError, ValueError) as error:
            raise self._refused(str(error)) from None

    def _refused(self, reason: str) -> LogError:
        # librdkafka names an option by its main name, which may not be the one that was written (linger.ms).
        given = ", ".join(sorted(self.options)) or "none"
        return LogError(f"a Kafka option was refused: {reason} (options passed through: {given})", retriable=False)
