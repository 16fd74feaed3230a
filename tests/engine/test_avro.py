"""The engine's own encoder writes what fastavro writes, for every schema, and fastavro reads it back."""

import io
import json
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odradek_runtime.core.records import avro
from odradek_runtime.core.records.formats import Format
from odradek_runtime.core.records.request import Failure
from tests.engine.test_formats import FIXED, SCHEMAS

LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70) | st.sampled_from([1023, 1024, 8191, 8192, 2**31])
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["é" * 600, "x" * 1_024]),
    "bytes": st.binary() | st.just(b"\0" * 1_500),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "boolean": st.booleans(),
    "double": st.floats(allow_nan=False),
}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list[Any](HealthCheck))


def data_of(schema: Any) -> st.SearchStrategy[Any]:
    """Everything that a schema has a place for, as fastavro takes it."""
    if isinstance(schema, str):
        return PLAIN[schema]
    if isinstance(schema, list):
        return st.none() | data_of(schema[1])
    match schema["type"]:
        case "record":
            return st.fixed_dictionaries({field["name"]: data_of(field["type"]) for field in schema["fields"]})
        case "array":
            return st.lists(data_of(schema["items"]), max_size=4) | st.lists(data_of(schema["items"]), min_size=70, max_size=70)
        case "map":
            return st.dictionaries(PLAIN["string"], data_of(schema["values"]), max_size=4)
        case _:
            return st.sampled_from(schema["symbols"])


def plain(value: Any) -> Any:
    """A record as nested dicts."""
    if isinstance(value, Failure):
        return {"code": value.code, "message": value.message, "metadata": dict(value.metadata)}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return [plain(item) for item in value] if isinstance(value, list) else value


def source_of(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def by_fastavro(format_: Format[Any], name: str, datum: Any) -> bytes:
    buffer = io.BytesIO(format_.encode(FIXED[name][1])[:10])
    buffer.seek(10)
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(source_of(name)), datum)
    return buffer.getvalue()


@pytest.mark.parametrize("name", list(FIXED))
def test_what_is_written_is_what_fastavro_writes_and_reads_back(name: str) -> None:
    format_, fixed = FIXED[name]

    @QUICK
    @given(data_of(source_of(name)))
    def same(datum: Any) -> None:
        value = msgspec.convert(datum, type(fixed))  # a failure's texts are made what a journal can hold
        written = by_fastavro(format_, name, plain(value))
        assert format_.encode(value) == written
        assert format_.decode(written) == value

    same()


@pytest.mark.parametrize(
    ("schema", "value"),
    [("long", 2**63), ("long", 5.0), ("string", b"x"), ("bytes", "x"), (["null", "bytes"], "x"),
     ({"type": "enum", "symbols": ["a"]}, "b")],
)  # fmt: skip
def test_a_value_without_a_place_in_the_schema_is_refused(schema: Any, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
        avro.writer(schema)(value)
