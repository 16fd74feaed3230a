"""The hand-laid encoding is Avro: fastavro reads every kind of row with the schemas that are shipped."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek_runtime.avro_long import long
from odradek_runtime.log.embedded import framing
from odradek_runtime.log.embedded.disk import rows_between
from odradek_runtime.log.embedded.framing import EmbeddedMessage
from odradek_runtime.log.embedded.partitioner import partition_of
from odradek_runtime.log.port import Output, Partition
from tests.contract.embedded.conftest import OpenLog, make_app
from tests.contract.station import Station
from tests.contract.test_records import MURMUR2

SCHEMAS = Path(__file__).parents[3] / "schemas"
LONGS = st.integers(-(2**63), 2**63 - 1)
MAYBE_BYTES = st.none() | st.binary(max_size=300)
HEADERS = st.lists(st.tuples(st.text(max_size=20), MAYBE_BYTES), max_size=4)


def schema(name: str) -> dict[str, Any]:
    """The shipped schema, with times as plain numbers."""
    parsed: dict[str, Any] = json.loads(
        (SCHEMAS / f"{name}.avsc").read_text(),
        object_hook=lambda item: item["type"] if item.get("logicalType") else item,
    )
    return parsed


def decode(name: str, raw: bytes) -> Any:
    """What fastavro reads; nothing may be left over."""
    stream = io.BytesIO(raw)
    # fastavro's stubs leave the parameter of IO open.
    value = fastavro.schemaless_reader(stream, schema(name), None)  # pyright: ignore[reportUnknownMemberType]
    assert stream.read() == b"", "bytes left over"
    return value


@given(LONGS)
def test_a_long(number: int) -> None:
    raw = long(number)

    assert framing.decode_long(raw) == number
    assert decode("embedded_number", raw) == {"number": number}


@given(MAYBE_BYTES, MAYBE_BYTES, HEADERS, st.integers(0, 2**50))
def test_a_record(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], time_ms: int) -> None:
    raw = framing.encode_record(key, value, framing.encode_headers(headers), long(time_ms))

    message = EmbeddedMessage("t", 1, 2, raw)

    assert (message.key(), message.value(), message.headers() or []) == (key, value, headers)
    assert message.timestamp() == (1, time_ms)
    assert framing.record_key(raw) == (key, value is None)
    assert decode("embedded_record", raw) == {
        "key": key,
        "value": value,
        "headers": [{"name": name, "value": content} for name, content in headers],
        "timestamp": time_ms,
    }


@pytest.mark.parametrize("size", [0, 63, 64, 8_191, 8_192, 1_100_000])
def test_a_record_of_every_width_of_length(size: int) -> None:
    raw = framing.encode_record(bytes(size), bytes(size), framing.encode_headers([("h", bytes(size))]), long(1))

    message = EmbeddedMessage("t", 0, 0, raw)

    assert (message.key(), message.value(), message.headers()) == (bytes(size), bytes(size), [("h", bytes(size))])
    assert decode("embedded_record", raw)["value"] == bytes(size)


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=5), st.text(max_size=10))
def test_a_topic(config: dict[str, str], identity: str) -> None:
    raw = framing.encode_topic(7, identity, 3, config)

    assert framing.decode_topic(raw) == (7, identity, 3, config)
    assert decode("embedded_topic", raw) == {"number": 7, "id": identity, "partitions": 3, "config": config}


@given(LONGS, LONGS)
def test_the_pairs(first: int, second: int) -> None:
    raw = framing.encode_pair(first, second)

    assert framing.decode_pair(raw) == (first, second)
    assert decode("embedded_partition", raw) == {"first": first, "end": second}
    assert decode("embedded_block", raw) == {"bytes": first, "newest": second}


def test_every_row_of_a_log_in_use_is_of_a_shipped_schema(open_log: OpenLog) -> None:
    log = open_log()
    make_app(log, "app", 2)
    station = Station(log, "app", 2).join().own({0, 1})
    for _ in range(2):
        outputs = [Output("app.commands", 0, b"k", b"v", [("h", None)]) for _ in range(1_500)]
        transaction = station.transaction([0], outputs, offsets={Partition("app.commands", 0): 3})
        transaction.state[0] = [(b"k", b"v"), (b"gone", None)]
        station.committed(transaction)
    log.publisher("p").publish([], 4)
    log.clean()
    station.leave()
    kinds = {
        "T": "embedded_topic", "P": "embedded_partition", "R": "embedded_record", "B": "embedded_block",
        **dict.fromkeys("KDCONM", "embedded_number"),
    }  # fmt: skip

    with log.disk.reading() as db:
        found = list(rows_between(db, b"\x00", b"\xff"))

    assert {chr(row[0]) for row, _ in found} == set(kinds)
    for row, raw in found:
        decode(kinds[chr(row[0])], raw)


@pytest.mark.parametrize(("key", "expected"), MURMUR2.items())
def test_the_partitioner_is_kafkas_murmur2(key: bytes, expected: int) -> None:
    assert partition_of(key, 2**31) == expected & 0x7FFFFFFF
