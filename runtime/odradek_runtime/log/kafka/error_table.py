"""Every error of Kafka and of its client library, and whose affair it is: one table, so that none is judged by the way.

Stands beside every call to the cluster. A test holds it to the client library's own list: a new code has to be judged here first.
"""

from __future__ import annotations

from typing import Literal

from confluent_kafka import KafkaError as K

Judgement = Literal["record", "configuration", "transient", "fenced", "fatal"]
"""Whose affair an error is.

record: one of the records cannot be taken as it is; without it the others can.
configuration: the brokers refuse what they would take if they were set up otherwise (rights, topics, quotas, replicas): it is said,
    and tried again until somebody has seen to it; no record is to blame.
transient: the cluster is busy or a connection was lost: it is tried again.
fenced: this producer or this member has been replaced by a newer one.
fatal: to repeat it cannot help: this client, or this version of Kafka, does not do what was asked.
"""

_TABLE: dict[Judgement, tuple[int, ...]] = {
    "record": (
        K.MSG_SIZE_TOO_LARGE, K.RECORD_LIST_TOO_LARGE, K.INVALID_MSG_SIZE, K.INVALID_RECORD, K.INVALID_MSG, K.INVALID_TIMESTAMP,
        K.TOPIC_EXCEPTION, K._UNKNOWN_PARTITION, K._INVALID_ARG, K._BAD_MSG, K._BAD_COMPRESSION, K._INVALID_DIFFERENT_RECORD,
        K._KEY_SERIALIZATION, K._VALUE_SERIALIZATION, K._KEY_DESERIALIZATION, K._VALUE_DESERIALIZATION, K._INVALID_TYPE,
    ),
    "configuration": (
        # rights and credentials
        K.TOPIC_AUTHORIZATION_FAILED, K.GROUP_AUTHORIZATION_FAILED, K.CLUSTER_AUTHORIZATION_FAILED,
        K.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, K.DELEGATION_TOKEN_AUTHORIZATION_FAILED, K.DELEGATION_TOKEN_AUTH_DISABLED,
        K.DELEGATION_TOKEN_NOT_FOUND, K.DELEGATION_TOKEN_OWNER_MISMATCH, K.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        K.DELEGATION_TOKEN_EXPIRED, K.INVALID_PRINCIPAL_TYPE, K.PRINCIPAL_DESERIALIZATION_FAILURE, K.UNACCEPTABLE_CREDENTIAL,
        K.SECURITY_DISABLED, K.SASL_AUTHENTICATION_FAILED, K.UNSUPPORTED_SASL_MECHANISM, K.ILLEGAL_SASL_STATE,
        K._AUTHENTICATION, K._SSL,
        # topics
        K.UNKNOWN_TOPIC_OR_PART, K.UNKNOWN_TOPIC_ID, K.INCONSISTENT_TOPIC_ID, K._UNKNOWN_TOPIC, K._NOENT, K.TOPIC_ALREADY_EXISTS,
        K.TOPIC_DELETION_DISABLED, K.INVALID_PARTITIONS, K.INVALID_REPLICATION_FACTOR, K.INVALID_REPLICA_ASSIGNMENT,
        K.INVALID_CONFIG, K.UNSUPPORTED_COMPRESSION_TYPE, K.UNSUPPORTED_FOR_MESSAGE_FORMAT, K.RESOURCE_NOT_FOUND,
        K.DUPLICATE_RESOURCE, K._READ_ONLY,
        # limits and policies
        K.POLICY_VIOLATION, K.THROTTLING_QUOTA_EXCEEDED, K.NOT_ENOUGH_REPLICAS, K.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        K._ISR_INSUFF, K.INVALID_REQUIRED_ACKS, K.INVALID_TRANSACTION_TIMEOUT, K.OFFSET_METADATA_TOO_LARGE,
        K.INVALID_COMMIT_OFFSET_SIZE, K.TELEMETRY_TOO_LARGE, K.SHARE_SESSION_LIMIT_REACHED,
        # groups
        K.INVALID_GROUP_ID, K.INVALID_SESSION_TIMEOUT, K.INCONSISTENT_GROUP_PROTOCOL, K.GROUP_MAX_SIZE_REACHED,
        K.UNSUPPORTED_ASSIGNOR, K.NON_EMPTY_GROUP, K.GROUP_SUBSCRIBED_TO_TOPIC, K.INVALID_REGULAR_EXPRESSION,
        K.UNRELEASED_INSTANCE_ID, K.STREAMS_INVALID_TOPOLOGY, K.STREAMS_INVALID_TOPOLOGY_EPOCH, K.LISTENER_NOT_FOUND,
    ),
    "transient": (
        K.UNKNOWN, K.OFFSET_OUT_OF_RANGE, K.LEADER_NOT_AVAILABLE, K.NOT_LEADER_FOR_PARTITION, K.REQUEST_TIMED_OUT,
        K.BROKER_NOT_AVAILABLE, K.REPLICA_NOT_AVAILABLE, K.STALE_CTRL_EPOCH, K.NETWORK_EXCEPTION, K.COORDINATOR_LOAD_IN_PROGRESS,
        K.COORDINATOR_NOT_AVAILABLE, K.NOT_COORDINATOR, K.NOT_CONTROLLER, K.OUT_OF_ORDER_SEQUENCE_NUMBER,
        K.DUPLICATE_SEQUENCE_NUMBER, K.INVALID_TXN_STATE, K.CONCURRENT_TRANSACTIONS, K.OPERATION_NOT_ATTEMPTED,
        K.KAFKA_STORAGE_ERROR, K.LOG_DIR_NOT_FOUND, K.UNKNOWN_PRODUCER_ID, K.REASSIGNMENT_IN_PROGRESS, K.GROUP_ID_NOT_FOUND,
        K.FETCH_SESSION_ID_NOT_FOUND, K.INVALID_FETCH_SESSION_EPOCH, K.FENCED_LEADER_EPOCH, K.UNKNOWN_LEADER_EPOCH,
        K.STALE_BROKER_EPOCH, K.OFFSET_NOT_AVAILABLE, K.MEMBER_ID_REQUIRED, K.PREFERRED_LEADER_NOT_AVAILABLE,
        K.ELIGIBLE_LEADERS_NOT_AVAILABLE, K.ELECTION_NOT_NEEDED, K.NO_REASSIGNMENT_IN_PROGRESS, K.UNSTABLE_OFFSET_COMMIT,
        K.TRANSACTION_ABORTABLE, K.REBOOTSTRAP_REQUIRED, K.UNKNOWN_CONTROLLER_ID, K.INVALID_RECORD_STATE,
        K.SHARE_SESSION_NOT_FOUND, K.INVALID_SHARE_SESSION_EPOCH,
        K._DESTROY, K._FAIL, K._TRANSPORT, K._RESOLVE, K._MSG_TIMED_OUT, K._PARTITION_EOF, K._ALL_BROKERS_DOWN, K._TIMED_OUT,
        K._QUEUE_FULL, K._NODE_UPDATE, K._WAIT_COORD, K._UNKNOWN_GROUP, K._IN_PROGRESS, K._PREV_IN_PROGRESS,
        K._EXISTING_SUBSCRIPTION, K._ASSIGN_PARTITIONS, K._REVOKE_PARTITIONS, K._CONFLICT, K._STATE, K._NO_OFFSET, K._OUTDATED,
        K._TIMED_OUT_QUEUE, K._WAIT_CACHE, K._INTR, K._PARTIAL, K._UNDERFLOW, K._RETRY, K._PURGE_QUEUE, K._PURGE_INFLIGHT,
        K._INCONSISTENT, K._MAX_POLL_EXCEEDED, K._UNKNOWN_BROKER, K._ASSIGNMENT_LOST, K._NOOP, K._AUTO_OFFSET_RESET,
        K._LOG_TRUNCATION, K._DESTROY_BROKER, K.NO_ERROR,
    ),
    "fenced": (
        K._FENCED, K.PRODUCER_FENCED, K.INVALID_PRODUCER_EPOCH, K.INVALID_PRODUCER_ID_MAPPING, K.TRANSACTION_COORDINATOR_FENCED,
        K.ILLEGAL_GENERATION, K.UNKNOWN_MEMBER_ID, K.FENCED_INSTANCE_ID, K.FENCED_MEMBER_EPOCH, K.STALE_MEMBER_EPOCH,
        K.REBALANCE_IN_PROGRESS, K.FENCED_STATE_EPOCH, K.STREAMS_TOPOLOGY_FENCED,
    ),
    "fatal": (
        K._CRIT_SYS_RESOURCE, K._FS, K._UNKNOWN_PROTOCOL, K._NOT_IMPLEMENTED, K._UNSUPPORTED_FEATURE, K._FATAL,
        K._GAPLESS_GUARANTEE, K._NOT_CONFIGURED, K._APPLICATION, K.UNSUPPORTED_VERSION, K.INVALID_REQUEST,
        K.INCONSISTENT_VOTER_SET, K.INVALID_UPDATE_VERSION, K.FEATURE_UPDATE_FAILED, K.MISMATCHED_ENDPOINT_TYPE,
        K.UNSUPPORTED_ENDPOINT_TYPE, K.UNKNOWN_SUBSCRIPTION_ID, K.INVALID_REGISTRATION, K.INVALID_VOTER_KEY, K.DUPLICATE_VOTER,
        K.VOTER_NOT_FOUND,
    ),
}  # fmt: skip
JUDGEMENTS: dict[int, Judgement] = {code: judgement for judgement, codes in _TABLE.items() for code in codes}


def judgement(code: int) -> Judgement:
    """Whose affair an error is; one that this version does not know is taken for passing."""
    return JUDGEMENTS.get(code, "transient")


REMEDIES: dict[int, tuple[str, str, str]] = {
    # code: (what was asked of, which operation, what to do), where the code alone tells
    K.TOPIC_AUTHORIZATION_FAILED: ("topic", "", "add an ACL for the operation on the topic"),
    K.GROUP_AUTHORIZATION_FAILED: ("group", "Read", "add an ACL for Read on the group (its id is the app's name)"),
    K.CLUSTER_AUTHORIZATION_FAILED: ("cluster", "", "add an ACL for the operation on the cluster"),
    K.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "transactional id", "Write",
        "add ACLs for Write and Describe on transactional ids, prefixed with the app's name and a dash",
    ),
    **dict.fromkeys(
        (K._AUTHENTICATION, K.SASL_AUTHENTICATION_FAILED, K.UNSUPPORTED_SASL_MECHANISM, K.ILLEGAL_SASL_STATE),
        ("credentials", "", "check sasl.mechanism, sasl.username, sasl.password and security.protocol"),
    ),
    K._SSL: ("TLS", "", "check security.protocol, ssl.ca.location and the broker's certificate"),
    K.UNKNOWN_TOPIC_OR_PART: ("topic", "", "create the topic"),
    K.UNKNOWN_TOPIC_ID: ("topic", "", "create the topic"),
    K._UNKNOWN_TOPIC: ("topic", "", "create the topic"),
    K.POLICY_VIOLATION: ("policy", "", "ask whoever set the broker's policy"),
    K.THROTTLING_QUOTA_EXCEEDED: ("quota", "", "raise the quota of this client, or wait"),
    K.NOT_ENOUGH_REPLICAS: ("topic", "Write", "start the brokers that are down, or lower min.insync.replicas"),
    K.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ("topic", "Write", "start the brokers that are down, or lower min.insync.replicas"),
    K.INVALID_TRANSACTION_TIMEOUT: (
        "transactions", "Write", "lower the setting transaction_timeout_s, or raise the broker's transaction.max.timeout.ms",
    ),
    K.INVALID_SESSION_TIMEOUT: (
        "group", "Read",
        "choose a --session-timeout between the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
    ),
    K.GROUP_MAX_SIZE_REACHED: ("group", "Read", "raise the broker's group.max.size, or run fewer workers"),
    K.UNSUPPORTED_COMPRESSION_TYPE: ("topic", "Write", "choose another compression.type"),
}  # fmt: skip
