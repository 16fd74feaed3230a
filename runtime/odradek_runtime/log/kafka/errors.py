"""What Kafka's errors mean: which fence, which name a record as the culprit, and what an operator can do about each.

Stands beside every call to the cluster: nothing of librdkafka's wording reaches the engine unexplained.
"""

from __future__ import annotations

from typing import Literal

from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.error_table import REMEDIES, judgement
from odradek_runtime.log.port import LogError, Refusal

PRODUCER_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
"""Somebody has run init_transactions on our transactional id."""

GROUP_FENCED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""The group refused the offsets: this member's generation is over."""

_AUTHENTICATION = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
_AUTHORIZATION = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "a topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "the consumer group (its id is the app's name)",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional ids (prefix: the app's name and a dash)",
}
_UNREACHABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._NODE_UPDATE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    }
)
_FINAL = frozenset(
    {
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.NON_EMPTY_GROUP,
        KafkaError._INVALID_ARG,
    }
)
"""Questions outside the flow of records that are not worth asking again as they are."""

Kind = Literal["unreachable", "authentication", "tls", "authorization", "other"]


def cause(error: KafkaException) -> KafkaError:
    """The KafkaError inside an exception of confluent_kafka."""
    inner = error.args[0] if error.args else None
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError.UNKNOWN, str(error))


def kind_of(error: KafkaError) -> Kind:
    """Which chapter of an operator's handbook it belongs to."""
    code = error.code()
    if code in _AUTHENTICATION:
        return "authentication"
    if code == KafkaError._SSL:
        return "tls"
    if code in _AUTHORIZATION:
        return "authorization"
    return "unreachable" if code in _UNREACHABLE else "other"


def explain(error: KafkaError, servers: str) -> str:
    """One sentence with the cause and what to check.

    >>> explain(KafkaError(KafkaError._ALL_BROKERS_DOWN), "10.0.0.1:9092").startswith("Kafka at 10.0.0.1:9092")
    True
    """
    detail = error.str() or error.name()
    match kind_of(error):
        case "authentication":
            return (
                f"Kafka at {servers} refused our credentials ({detail}): check the options sasl.mechanism, "
                "sasl.username, sasl.password and security.protocol"
            )
        case "tls":
            return (
                f"no TLS connection to Kafka at {servers} ({detail}): check security.protocol, ssl.ca.location and the "
                "broker's certificate"
            )
        case "authorization":
            what = _AUTHORIZATION[error.code()]
            return f"Kafka at {servers} does not allow this client to use {what} ({detail}): add an ACL"
        case "unreachable":
            return (
                f"Kafka at {servers} cannot be reached ({detail}): check that the brokers run, that bootstrap_servers "
                "and their advertised listeners can be reached from here, and that security.protocol fits the listener"
            )
        case "other":
            return f"Kafka at {servers}: {detail} ({error.name()})"


def log_error(error: KafkaError, servers: str, doing: str, *, resource: str = "", operation: str = "") -> LogError:
    """The exception of the port for an error of Kafka met while doing something."""
    message = f"{doing}: {explain(error, servers)}"
    refused = refusal_of(error, doing, resource=resource, operation=operation)
    return LogError(message, retriable=error.code() not in _FINAL, refusal=refused)


def refusal_of(error: KafkaError, doing: str, *, resource: str = "", operation: str = "") -> Refusal | None:
    """The refusal behind an error of the brokers' configuration; None if it is something else.

    Args:
        doing: what was asked, in words.
        resource: the topic, if it is known.
        operation: what an ACL would call it, if that is known.

    >>> refusal_of(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "writing", resource="orders", operation="Write").message
    'Kafka refuses Write on orders (writing: Broker: Topic authorization failed): add an ACL for the operation on the topic'
    """
    code = error.code()
    if judgement(code) != "configuration":
        return None
    kind, usual, remedy = REMEDIES.get(code, ("", "", "see to the brokers' configuration"))
    what, how = resource if kind in ("", "topic") and resource else kind or error.name(), operation or usual
    return Refusal(what, how, f"Kafka refuses {how or 'it'} on {what} ({doing}: {error.str() or error.name()}): {remedy}")
