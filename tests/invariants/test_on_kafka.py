"""Rules that only a real Kafka can break: fences fetched before they are checked, releases that wait, and what a group forgets."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, Positions
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.confluent import GroupMetadata
from odradek_runtime.log.kafka.membership import Membership
from odradek_runtime.log.kafka.producer import TransactionFailedError
from odradek_runtime.log.kafka.remote_producer import RemoteProducer
from odradek_runtime.log.port import Gained, Log, Losing, Output, Partition, Transaction
from odradek_runtime.log.stamps import Stamps
from odradek_runtime.store.store_folder import MemoryStores
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.worker import Worker
from tests.contract.station import Station, values
from tests.invariants.counting import counting
from tests.kafka.conftest import SHARDS, make_app
from tests.kafka.raw import eventually, offsets_transaction, reader, transactional

Join = Callable[[], Station]


@pytest.fixture
def log(kafka: str) -> Iterator[KafkaLog]:
    """A log on the shared Kafka; its transactions may wait for a test on a busy machine."""
    opened = KafkaLog(kafka, transaction_timeout_s=30.0)
    yield opened
    opened.close()


@pytest.fixture
def app(log: Log, topic_prefix: str) -> str:
    return make_app(log, topic_prefix)


@pytest.fixture
def topic(log: Log, topic_prefix: str) -> str:
    return log.create_topic(f"{topic_prefix}-out", 1, {}).name


@pytest.fixture
def join(log: Log, app: str) -> Iterator[Join]:
    """A member of the app, which leaves at the end of the test."""
    stations: list[Station] = []

    def make() -> Station:
        stations.append(Station(log, app, SHARDS).join())
        return stations[-1]

    yield make
    for station in stations:
        station.leave()


def test_stamps_are_checked_after_the_metadata_was_fetched(
    log: KafkaLog, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard goes and comes back while the committer asks for the metadata, which is fresh and valid afterwards."""
    given: list[Stamps] = []
    gain = Stamps.gain

    def gained(stamps: Stamps, shards: Iterable[int]) -> dict[int, int]:
        given.append(stamps)
        return gain(stamps, shards)

    monkeypatch.setattr(Stamps, "gain", gained)
    station = join().own({0, 1})
    fetch = Membership.metadata

    def moved_meanwhile(membership: Membership, timeout_s: float) -> GroupMetadata:
        given[-1].bump([0])
        given[-1].gain([0])
        return fetch(membership, timeout_s)

    monkeypatch.setattr(Membership, "metadata", moved_meanwhile)
    refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"of the time before")]))

    assert refused.reason == "fenced"
    assert values(log, Partition(topic, 0)) == []


def test_nothing_is_sent_before_the_first_assignment(
    kafka: str, log: KafkaLog, app: str, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata of a member whom the group has not answered yet fences nothing: its offsets pass, whoever owns the shard."""
    owner = join().own({0, 1})
    stranger = reader(kafka, app)
    unanswered = stranger.consumer_group_metadata()
    position = TopicPartition(f"{app}.commands", 0, 5)
    assert offsets_transaction(transactional(kafka, f"{app}-raw"), (topic, b"raw"), position, unanswered) == "committed"
    monkeypatch.setattr(Membership, "metadata", lambda *_: unanswered)
    newcomer = join()
    forged = Transaction(1, {0: 1}, [Output(topic, 0, b"k", b"early")], offsets={Partition(f"{app}.commands", 0): 1})

    refused = newcomer.refused(forged)  # the owner has not let go: nothing can have been assigned

    assert refused.reason == "fenced"
    owner.give_up(owner.wait(Losing))
    assert values(log, Partition(topic, 0)) == [b"raw"]
    stranger.close()


def test_a_shard_does_not_move_while_a_transaction_that_touches_it_is_on_its_way(
    log: KafkaLog, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offsets are with the group already: committed after the move, it would be a zombie's."""
    station = join().own({0, 1})
    on_its_way, go = threading.Event(), threading.Event()
    commit = RemoteProducer.commit

    def slow(producer: RemoteProducer) -> Mapping[Partition, int]:
        on_its_way.set()
        go.wait(30)
        return commit(producer)

    monkeypatch.setattr(RemoteProducer, "commit", slow)
    transaction = station.transaction([0, 1], [Output(topic, 0, b"k", b"v")])
    station.member.commit(transaction)
    assert on_its_way.wait(30)
    heir = join()
    losing = station.wait(Losing)
    losing.release()  # an engine that does not wait
    early = [gained for gained in heir.drain(Gained, 1.5) if gained.shards]
    go.set()

    assert early == []
    assert station.end_or_trouble(transaction.epoch)
    station.give_up(losing)
    heir.own(set(losing.shards))
    assert values(log, Partition(topic, 0)) == [b"v"]


def test_an_unknown_outcome_is_settled_before_anybody_hears_of_it(
    kafka: str, log: KafkaLog, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit's answer does not come: when the engine hears of that, a new producer has ended the transaction."""
    station = join().own({0, 1})

    def unanswered(_: RemoteProducer) -> None:
        eventually(lambda: log.offsets(Partition(topic, 0))[1] > 0)
        raise TransactionFailedError("unknown", "the answer was lost (a test)", spent=True)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteProducer, "commit", unanswered)
        refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"unknown")]))

    assert refused.reason == "unknown"
    impatient = KafkaLog(kafka, scan_stall_s=2.0)
    assert values(impatient, Partition(topic, 0)) == [], "it is over: else the scan would wait for its end"
    impatient.close()
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"next")]))
    assert values(log, Partition(topic, 0)) == [b"next"]


def test_the_ends_of_the_changelogs_are_taken_after_the_stable_offset(kafka: str, log: KafkaLog, app: str) -> None:
    """The last owner's transaction ends while its heir waits for the offset: what it wrote belongs to the shard."""
    consumer = reader(kafka, app)
    producer = transactional(kafka, f"{app}-last-owner")
    producer.begin_transaction()
    position = TopicPartition(f"{app}.commands", 0, 8)
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 10)

    def end() -> None:
        producer.produce(f"{app}.journal", POSITIONS.encode(Positions(SHARDS, 7, 1, 0, 0, [])), keys.POSITIONS, 0)
        producer.commit_transaction(10)

    later = threading.Timer(1.0, end)
    later.start()
    takeover = Takeover(app, SHARDS, log, log.member(app, SHARDS, None), [], MemoryStores())

    shard = takeover.run(0, 1, lambda: time.time() * 1000, Progress())

    assert shard.incarnation == 8, "the successor of the last owner, whose last epoch it has seen"
    later.join()
    consumer.close()


class _Groups(Protocol):
    def delete_consumer_groups(self, groups: list[str]) -> dict[str, "_Result"]: ...


class _Result(Protocol):
    def result(self, timeout: float) -> None: ...


def test_a_worker_goes_on_from_its_journal_when_the_group_has_forgotten_everything(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path
) -> None:
    """Kafka expires offsets of topics that a group does not subscribe to: deleting the group is the quick way to see that."""
    inputs = log.create_topic(f"{topic_prefix}-in", 1, {}).name
    outputs = log.create_topic(f"{topic_prefix}-out", 1, {}).name
    app = counting(name=topic_prefix)

    def run(number: int, expected: list[bytes]) -> None:
        worker = Worker(app, log, Settings(bootstrap_servers=kafka, data_dir=tmp_path), in_memory=True)
        worker.start()
        publisher = log.publisher(f"{topic_prefix}-{number}")
        publisher.publish([Output(inputs, 0, b"k", b"%d" % number)], 1)
        publisher.close()
        eventually(lambda: len(values(log, Partition(outputs, 0))) >= len(expected))
        worker.stop()
        assert worker.failed is None
        assert values(log, Partition(outputs, 0)) == expected

    run(1, [b"k=1"])
    admin = cast("_Groups", AdminClient({"bootstrap.servers": kafka, "log_level": 0}))
    admin.delete_consumer_groups([topic_prefix])[topic_prefix].result(30)
    run(2, [b"k=1", b"k=3"])
