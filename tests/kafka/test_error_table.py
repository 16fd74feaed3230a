"""The table of errors: every code of the client library is judged, once, and refusals say what to do."""

from confluent_kafka import KafkaError

from odradek_runtime.log.kafka.error_table import JUDGEMENTS, REMEDIES, judgement
from odradek_runtime.log.kafka.errors import GROUP_FENCED, PRODUCER_FENCED, log_error, refusal_of

CODES = {value: name for name, value in vars(KafkaError).items() if name.isupper() and isinstance(value, int)}


def test_every_error_of_the_client_library_is_judged() -> None:
    assert {name for code, name in CODES.items() if code not in JUDGEMENTS} == set()
    assert len(CODES) > 150, "they were found at all"


def test_a_refusal_by_configuration_is_never_a_records_fault() -> None:
    for code in (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.POLICY_VIOLATION,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError._READ_ONLY,
    ):
        assert judgement(code) == "configuration"
    for code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD):
        assert judgement(code) == "record"


def test_fences_are_fences() -> None:
    assert {judgement(code) for code in GROUP_FENCED | PRODUCER_FENCED} == {"fenced"}


def test_refusals_name_resource_operation_and_remedy() -> None:
    for code in REMEDIES:
        refusal = refusal_of(KafkaError(code), "writing", resource="orders", operation="Write")
        assert refusal is not None
        assert refusal.resource and refusal.resource in refusal.message
        assert ": " in refusal.message
    denied = log_error(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "b:1", "asking", resource="orders", operation="Read")
    assert denied.retriable
    assert denied.refusal is not None and denied.refusal[:2] == ("orders", "Read")
    assert refusal_of(KafkaError(KafkaError.REQUEST_TIMED_OUT), "writing") is None
