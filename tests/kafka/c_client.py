"""A producer in C, as it were: librdkafka itself, which writes what no Python client would (header names of any bytes).

The library is the one that confluent-kafka's wheel carries.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka

END, TOPIC, PARTITION, VALUE, KEY, MSGFLAGS, TIMESTAMP, HEADER = 0, 1, 3, 4, 5, 7, 8, 9
COPY = 2
PRODUCER = 0
PATIENCE_MS = 30_000


def _library() -> ctypes.CDLL:
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(beside.glob("librdkafka*.so*"))
    assert found, f"no librdkafka in {beside}"
    library = ctypes.CDLL(str(found[0]))
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_err2str.restype = ctypes.c_char_p
    return library


class CProducer:
    """Closed when its `with` block ends: everything has been delivered then."""

    def __init__(self, servers: str) -> None:
        self._library = _library()
        conf = self._library.rd_kafka_conf_new()
        why = ctypes.create_string_buffer(512)
        for name, value in ((b"bootstrap.servers", servers.encode()), (b"log_level", b"0")):
            said = self._library.rd_kafka_conf_set(ctypes.c_void_p(conf), name, value, why, ctypes.c_size_t(len(why)))
            assert said == 0, why.value
        handle = self._library.rd_kafka_new(PRODUCER, ctypes.c_void_p(conf), why, ctypes.c_size_t(len(why)))
        assert handle, why.value
        self._handle = ctypes.c_void_p(handle)

    def __enter__(self) -> CProducer:
        return self

    def __exit__(self, *_: object) -> None:
        said = self._library.rd_kafka_flush(self._handle, PATIENCE_MS)
        self._library.rd_kafka_destroy(self._handle)
        assert said == 0, self._library.rd_kafka_err2str(said)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[bytes, bytes | None]] = (),
        partition: int = -1,
        timestamp_ms: int = 0,
    ) -> None:
        """Header names without a zero byte. `timestamp_ms` 0: now."""
        parts: list[object] = [TOPIC, ctypes.c_char_p(topic.encode()), PARTITION, ctypes.c_int32(partition)]
        parts += [VALUE, *_counted(value), KEY, *_counted(key), MSGFLAGS, ctypes.c_int(COPY)]
        parts += [TIMESTAMP, ctypes.c_int64(timestamp_ms)]
        for name, content in headers:
            parts += [HEADER, ctypes.c_char_p(name), ctypes.c_char_p(content), ctypes.c_ssize_t(len(content or b""))]
        said = self._library.rd_kafka_producev(self._handle, *parts, END)
        assert said == 0, self._library.rd_kafka_err2str(said)


def _counted(content: bytes | None) -> tuple[object, object]:
    return ctypes.c_char_p(content), ctypes.c_size_t(len(content or b""))
