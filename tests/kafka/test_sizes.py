"""Sizes on a real broker: what an input may hold passes through, what cannot be taken is a dead letter, and nobody waits for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from odradek import App, ObjectContext, State, TerminalError, step
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, Message, Output
from odradek_runtime.log.sizes import record_bytes
from tests.conftest import ClusterFactory
from tests.contract.station import Station
from tests.kafka.raw import committed_values, eventually
from tests.kafka.running import publish, running
from tests.records import committed

Join = Callable[[Log, str], Station]
DEFAULT_LIMIT = 1_048_588
held = State("held", bytes, default=b"")
RAW_HEADERS: list[list[tuple[str, bytes | None]] | None] = [None, [("name", b"x" * 30), ("né", None)]]


@pytest.mark.parametrize("headers", RAW_HEADERS, ids=["bare", "headed"])
@pytest.mark.parametrize("key", [None, b"", b"k" * 100], ids=["no key", "empty key", "key"])
def test_the_broker_counts_as_we_do(
    kafka: str, app: str, topic_prefix: str, join: Join, key: bytes | None, headers: list[tuple[str, bytes | None]] | None
) -> None:
    """As the records are: compressed, they may be smaller."""
    log, limit = KafkaLog(kafka, options={"compression.type": "none"}), 5_000
    small = log.create_topic(f"{topic_prefix}-small", 1, {"max.message.bytes": str(limit)}).name
    fits = next(size for size in range(limit, 0, -1) if record_bytes(key, b"x" * size, headers) == limit)
    station = join(log, app).own({0, 1})

    station.committed(station.transaction([0], [Output(small, 0, key, os.urandom(fits), headers)]))
    refused = station.refused(station.transaction([0], [Output(small, 0, key, os.urandom(fits + 1), headers)]))

    assert (refused.reason, refused.poison) == ("aborted", True)
    log.close()


def compressed(servers: str, *records: tuple[str, bytes, bytes]) -> None:
    """Write records as some other producer would: with zstd, so that the topic takes what is far larger than its limit."""
    client: Any = Producer({"bootstrap.servers": servers, "compression.type": "zstd", "message.max.bytes": 200_000_000})
    for topic, key, value in records:
        client.produce(topic, value, key, partition=0)
        client.flush(30)  # each in a batch of its own


def alter(servers: str, topic: str, **config: str) -> None:
    """As `kafka-configs --alter` would."""
    admin: Any = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    resource = cast("Any", ConfigResource)(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(30)


def letters(log: Log, app: str) -> list[tuple[dict[str, str], Message]]:
    """The dead letters: headers as text, and the record."""
    found = committed(log, f"{app}.dead-letters")
    return [({name: (text or b"").decode() for name, text in message.headers() or ()}, message) for message in found]


def carrying(name: str, shards: int = 2) -> App:
    """Takes large values everywhere: into state, through a step, over to another shard, to the dead letters."""
    app = App(name, shards=shards)
    inputs, done, box = app.topic(f"{name}-in"), app.topic(f"{name}-out", value=str), app.object("box")

    @step
    async def same(value: bytes) -> bytes:
        return value

    @box.on(inputs)
    async def take(ctx: ObjectContext, value: bytes) -> None:
        kind = ctx.key.partition("-")[0]
        if kind == "letter":
            raise TerminalError("as asked")
        if kind in ("step", "wait"):
            value = await same(value)
        if kind == "wait":
            await ctx.sleep(0.01)
        if kind in ("state", "wait"):
            ctx.set(held, value)
            assert ctx.get(held) == value
        ctx.publish(done, f"{ctx.key} {len(value)}", key=ctx.key)

    return app


SIZES = (1_200_000, 5_000_000)
KINDS = ("state", "step", "wait", "letter", "plain")


def keys_of(kind: str) -> list[bytes]:
    """Four keys, of both shards in all likelihood: some records are forwarded."""
    return [f"{kind}-{n}".encode() for n in range(4)]


def test_what_an_input_holds_passes_through(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> None:
    """Records of 1.2 and 5 MB that their input takes compressed: written on they are larger than any topic takes by default."""
    log.create_topic(f"{topic_prefix}-in", 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    records = [(f"{topic_prefix}-in", key, b"x" * size) for size in SIZES for kind in KINDS for key in keys_of(kind)]
    with running(carrying(topic_prefix), log, kafka, tmp_path):
        compressed(kafka, *records)
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == len(SIZES) * 4 * 4, 60.0)
        eventually(lambda: len(letters(log, topic_prefix)) == len(SIZES) * 4)

    told = sorted(value.decode() for value in committed_values(kafka, f"{topic_prefix}-out") if value)
    assert told == sorted(f"{key.decode()} {len(value)}" for _, key, value in records if not key.startswith(b"letter"))
    for headers, message in letters(log, topic_prefix):
        assert len(message.value() or b"") in SIZES
        assert (headers["odradek-topic"], headers["odradek-partition"]) == (f"{topic_prefix}-in", "0")


def test_a_record_of_more_than_a_response_is_read(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> None:
    """120 MB in a few kilobytes: a consumer left as it comes would ask for it for ever."""
    log.create_topic(f"{topic_prefix}-in", 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    inputs, huge = f"{topic_prefix}-in", b"x" * 120_000_000
    with running(carrying(topic_prefix, shards=1), log, kafka, tmp_path):
        compressed(kafka, (inputs, b"plain-1", huge), (inputs, b"wait-2", huge), (inputs, b"plain-3", b"small"))
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == 2, 60.0)
        eventually(lambda: len(letters(log, topic_prefix)) == 1)
    assert committed_values(kafka, f"{topic_prefix}-out") == [b"plain-1 120000000", b"plain-3 5"]
    ((headers, message),) = letters(log, topic_prefix)
    assert (message.key(), headers["odradek-offset"], headers["odradek-value-bytes"]) == (b"wait-2", "1", "120000000")


def test_records_just_below_the_limit_pass_through(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> None:
    """270 bytes below it, uncompressed: with the headers of a dead letter, or as a command, it is above."""
    log.create_topic(f"{topic_prefix}-in", 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    size = DEFAULT_LIMIT - 270
    with running(carrying(topic_prefix), log, kafka, tmp_path):
        for kind in KINDS:
            outputs = [Output(f"{topic_prefix}-in", 0, key, os.urandom(size)) for key in keys_of(kind)]
            publish(log, f"{topic_prefix}-{kind}", *outputs)
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == 4 * 4, 60.0)
        eventually(lambda: len(letters(log, topic_prefix)) == 4)
    assert all(len(message.value() or b"") == size for _, message in letters(log, topic_prefix))


def test_an_apps_older_topics_take_what_they_take_and_nobody_waits(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path
) -> None:
    """Made before topics had limits of their own. What does not fit is a dead letter at once; the records between are done."""
    inputs = f"{topic_prefix}-in"
    log.create_topic(inputs, 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    log.create_topic(f"{topic_prefix}.commands", 2, {"retention.ms": "-1", "retention.bytes": "-1"})
    log.create_topic(f"{topic_prefix}.journal", 2, {"cleanup.policy": "compact"})
    log.create_topic(f"{topic_prefix}.state", 2, {"cleanup.policy": "compact"})
    log.create_topic(f"{topic_prefix}.dead-letters", 2, {})
    large = [key for kind in ("state", "step", "letter") for key in keys_of(kind)]
    records: list[tuple[str, bytes, bytes]] = []
    for key in large:
        records += [(inputs, key, b"x" * 1_200_000), (inputs, b"plain-" + key, b"small")]
    with running(carrying(topic_prefix), log, kafka, tmp_path) as worker:
        compressed(kafka, *records)
        eventually(lambda: len(letters(log, topic_prefix)) == len(large), 60.0)
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == len(large))
        assert worker.metrics.epochs_refused == 0, "nothing was sent that the broker would refuse"

    found = letters(log, topic_prefix)
    assert sorted(message.key() or b"" for _, message in found) == sorted(large)
    for headers, message in found:
        offset = int(headers["odradek-offset"])
        assert (headers["odradek-topic"], records[offset][1]) == (inputs, message.key()), "its own place, not the command's"
        assert (message.value(), headers["odradek-value-bytes"]) == (None, "1200000")
        forwarded_or_kept = not (message.key() or b"").startswith(b"letter")
        assert headers["odradek-code"] == "413" or not forwarded_or_kept


def test_a_limit_that_is_lowered_while_the_app_runs_is_noticed(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path
) -> None:
    """The broker refuses what was right a moment ago: the limits are read anew, the culprit gets 413, and the others commit."""
    log.create_topic(f"{topic_prefix}-in", 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    with running(carrying(topic_prefix, shards=1), log, kafka, tmp_path) as worker:
        publish(log, f"{topic_prefix}-1", Output(f"{topic_prefix}-in", 0, b"state-before", os.urandom(900_000)))
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == 1)
        alter(kafka, f"{topic_prefix}.state", **{"max.message.bytes": "500000"})
        around = [Output(f"{topic_prefix}-in", 0, b"state-%d" % n, b"small") for n in range(100)]
        culprit = Output(f"{topic_prefix}-in", 0, b"state-large", os.urandom(900_000))
        publish(log, f"{topic_prefix}-2", *around[:50], culprit, *around[50:])
        eventually(lambda: len(committed_values(kafka, f"{topic_prefix}-out")) == 101)
        eventually(lambda: len(letters(log, topic_prefix)) == 1)
        assert worker.metrics.epochs_refused > 0

    ((headers, message),) = letters(log, topic_prefix)  # 52: a marker lies between the two transactions
    assert (message.key(), headers["odradek-code"], headers["odradek-offset"]) == (b"state-large", "413", "52")
    assert f"{topic_prefix}.state, 500000 bytes" in headers["odradek-error"]


def test_a_brokers_lower_limit_is_not_the_apps_topics(
    kafka_cluster: ClusterFactory, topic_prefix: str, tmp_path: Path
) -> None:
    """Its own limit is for topics that have none: the app's have."""
    cluster = kafka_cluster(properties={"message.max.bytes": 300_000})
    log = KafkaLog(cluster.bootstrap_servers)
    log.create_topic(f"{topic_prefix}-in", 1, {})
    log.create_topic(f"{topic_prefix}-out", 1, {})
    with running(carrying(topic_prefix, shards=1), log, cluster.bootstrap_servers, tmp_path):
        compressed(cluster.bootstrap_servers, (f"{topic_prefix}-in", b"wait-1", b"x" * 1_200_000))
        eventually(lambda: committed_values(cluster.bootstrap_servers, f"{topic_prefix}-out") == [b"wait-1 1200000"])
    log.close()
