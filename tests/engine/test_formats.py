"""Golden files: what was ever written to Kafka or a store decodes for ever, and a schema does not change unnoticed.

`golden/<format>-<fingerprint>.bin` holds the bytes of a fixed value under the schema of that fingerprint. To change a schema:
copy the old one to `schemas/past/<name>.<n>.avsc`, then run `python -m tests.engine.test_formats`, which writes the golden
file of the new one beside the old.
"""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from odradek_runtime.core.records import formats
from odradek_runtime.core.records.formats import (
    CHUNK,
    COMMAND,
    INVOCATION,
    LOCK,
    POSITIONS,
    PROMISE,
    REPLAY,
    REPLAY_TALLY,
    SLOT,
    STORE_POSITION,
    TIMER,
    Chunk,
    Command,
    Entry,
    Format,
    FormatError,
    Header,
    Lock,
    Position,
    Positions,
    Promise,
    Replay,
    ReplayTally,
    Slot,
    Stored,
    StorePosition,
    Timer,
)
from odradek_runtime.core.records.request import Failure

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(__file__).parents[2] / "schemas"

FAILURE = Failure(422, "unlucky é", {"n": "13"})
HEADERS = [Header("traceparent", b"00-1"), Header("none", None)]
FIXED: dict[str, tuple[Format[Any], Any]] = {
    "command": (
        COMMAND,
        Command(
            kind="invoke", id="inv_a", target="customer/total", key=b"\xff\x00", payload=b"{}", headers=HEADERS,
            caller_app="shop", caller_id="inv_b", ref=3, at_ms=1_700_000_000_000, idempotent=True, failure=FAILURE,
            topic="orders", partition=2, offset=17, timestamp_ms=1_600_000_000_000, name="decision",
            topic_id="id3",
        ),
    ),
    "invocation": (
        INVOCATION,
        Stored(
            id="inv_a", target="customer/total", key=b"bob", payload=None, headers=HEADERS, status="failed", topic="orders",
            partition=2, offset=17, timestamp_ms=1_600_000_000_000, record_key=b"bob", caller_app="shop", caller_id="inv_b",
            caller_ref=3, retain_ms=86_400_000, created_ms=1_700_000_000_000, failed_ms=1_700_000_000_001, attempts=4,
            reason="ValueError: x", pause="divergence", python="3.11", result=b"7", failure=FAILURE, fingerprint=b"\x01" * 16,
            replay="fix-7", due_ms=1_700_000_000_002, unbegun="inboxed",
        ),
    ),
    "chunk": (
        CHUNK,
        Chunk([Entry("step", 0, "charge"), Entry("get", 1, "spent", None, b"5"), Entry("call", 2, "a/b", b"k", None, None, 12.5),
               Entry("completion", 0, "", None, None, FAILURE)], 1_700_000_000_000),
    ),
    "lock": (LOCK, Lock("inv_a", 3, 9)),
    "replay": (
        REPLAY,
        Replay(
            id="fix-7", topic="orders", partition=2, first=10, next=17, stop=90, topic_id="id3", handler="customer/ordered",
            keys=[b"bob", b"\xff"], rate=12.5, asked_by="ann@laptop", begun_ms=1_700_000_000_000, ended_ms=1_700_000_000_001,
            status="broken", reason="the topic has gone", records=6, passed=1, gone=3, parts=4,
        ),
    ),
    "replay_tally": (REPLAY_TALLY, ReplayTally("fix-7", 6, ended_well=3, dead_letters=2, left_out=1, at_ms=1_700_000_000_000)),
    "promise": (PROMISE, Promise(None, FAILURE)),
    "slot": (SLOT, Slot("inv_a")),
    "timer": (TIMER, Timer("step", 2, 1_700_000_000_000, 1_600_000_000_000, 3)),
    "positions": (
        POSITIONS, Positions(8, 3, 44, 99, 1_700_000_000_000, [Position("orders", 2, 17, "id3", "reset-7", 90)], "id1", "id2", 3,
                             [1_700_000_000_007]),
    ),
    "store_position": (STORE_POSITION, StorePosition("id1", "id2", 10, 20, 1_700_000_000_000, sifted=True)),
}  # fmt: skip
EMBEDDED = re.compile("embedded_")  # the embedded log's own, which it holds to golden files itself


def schema_of(path: Path) -> str:
    return fingerprint(to_parsing_canonical_form(json.loads(path.read_text())), "CRC-64-AVRO")


def today(name: str) -> str:
    return schema_of(SCHEMAS / f"{name}.avsc")


def test_every_schema_has_a_golden_file() -> None:
    names = {path.stem for path in SCHEMAS.glob("*.avsc") if not EMBEDDED.match(path.stem)}
    assert names == set(FIXED)
    assert {name.lower() for name, value in vars(formats).items() if isinstance(value, Format)} == names


@pytest.mark.parametrize("name", list(FIXED))
def test_todays_schema_writes_the_golden_bytes(name: str) -> None:
    """Fails when a schema has changed: keep the old one in schemas/past, and add a golden file for the new one."""
    golden = GOLDEN / f"{name}-{today(name)}.bin"
    assert golden.is_file(), f"{name}.avsc has changed: see the first lines of this file"
    format_, value = FIXED[name]
    assert format_.encode(value) == golden.read_bytes()
    assert format_.decode(golden.read_bytes()) == value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.stem)
def test_every_golden_file_decodes_for_ever(path: Path) -> None:
    name, _, written_by = path.stem.rpartition("-")
    format_, _ = FIXED[name]
    known = {today(name)} | {schema_of(past) for past in (SCHEMAS / "past").glob(f"{name}.*avsc")}
    assert written_by in known, f"the schema {written_by} of {name} is gone: it belongs into schemas/past"
    format_.decode(path.read_bytes())


def test_past_schemas_have_golden_files() -> None:
    for past in (SCHEMAS / "past").glob("*.avsc"):
        name = past.name.split(".")[0]
        assert (GOLDEN / f"{name}-{schema_of(past)}.bin").is_file(), past.name


FIRST_AT_ONCE = """
import os, sys, threading
from odradek_runtime.core.records.formats import POSITIONS, Position, Positions

raw = POSITIONS.encode(Positions(8, 3, 44, 99, 1, [Position("orders", 2, 17)], "id1", "id2"))
barrier = threading.Barrier(8)

def decode():
    barrier.wait()
    POSITIONS.decode(raw)

sys.setswitchinterval(1e-6)
died = 0
for _ in range(100):
    child = os.fork()
    if not child:
        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
    died += os.waitpid(child, 0)[1] != 0
print(died)
"""


def test_threads_that_are_the_first_to_decode_end_no_process() -> None:
    """As those that restore a worker's shards do, after each start."""
    where = {"PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], env=where, capture_output=True, check=True)
    assert told.stdout.split() == [b"0"]


def test_what_a_past_schema_wrote_reads_with_todays_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    past = json.loads((SCHEMAS / "timer.avsc").read_text())
    past["fields"] = [field for field in past["fields"] if field["name"] != "first_ms"]
    monkeypatch.setattr(formats, "_past", lambda name: [past])
    buffer = io.BytesIO(b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(past), "CRC-64-AVRO")))
    buffer.seek(10)
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(past), {"kind": "step", "attempt": 2})
    assert Format("timer", Timer).decode(buffer.getvalue()) == Timer("step", 2, 0)


@pytest.mark.parametrize("name", list(FIXED))
def test_damaged_bytes_are_said(name: str) -> None:
    format_, value = FIXED[name]
    data = format_.encode(value)
    with pytest.raises(FormatError, match="written by a newer version, or by something else"):
        format_.decode(b"\xc3\x01" + b"\0" * 8 + data[10:])
    with pytest.raises(FormatError, match="a damaged"):
        format_.decode(data[:-1])
    with pytest.raises(FormatError):
        format_.decode(b"")


if __name__ == "__main__":
    for name_, (its_format, fixed) in FIXED.items():
        file = GOLDEN / f"{name_}-{today(name_)}.bin"
        if not file.exists():
            file.write_bytes(its_format.encode(fixed))
