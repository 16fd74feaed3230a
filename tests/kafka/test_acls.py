"""The rights that an app needs (docs/acls.md), on a broker with an authorizer: exactly these, and with each one taken away.

What is taken away is said with resource, operation and remedy; when it is granted again the app goes on by itself, and nothing was
lost, doubled, or taken for the fault of a record.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from odradek import App, ObjectContext, State
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.routing import fresh_id, id_hash
from odradek_runtime.worker.worker import Worker
from tests.broker import KafkaCluster
from tests.contract.station import values
from tests.kafka.raw import eventually

pytestmark = pytest.mark.faults

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "shop", "sasl.password": "secret"}
BROKER: dict[str, str | int | bool] = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXY:SASL_PLAINTEXT",
    "listener.name.proxy.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.proxy.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="secret";'
    ),
    "auto.create.topics.enable": False,
}
OWN, INPUT, OUTPUT, GROUP, IDS = "{app}.", "{app}-orders", "{app}-invoices", "{app}", "{app}-"
PREFIXED, LITERAL = ResourcePatternType.PREFIXED, ResourcePatternType.LITERAL
TOPIC, TRANSACTIONS = ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID
NEEDED: dict[str, tuple[Any, str, Any, Any]] = {
    # as docs/acls.md has it: (kind of resource, name, pattern, operation)
    "own topics: Read": (TOPIC, OWN, PREFIXED, AclOperation.READ),
    "own topics: Write": (TOPIC, OWN, PREFIXED, AclOperation.WRITE),
    "own topics: Create": (TOPIC, OWN, PREFIXED, AclOperation.CREATE),
    "own topics: DescribeConfigs": (TOPIC, OWN, PREFIXED, AclOperation.DESCRIBE_CONFIGS),
    "commands: Delete": (TOPIC, OWN + "commands", LITERAL, AclOperation.DELETE),
    "input: Read": (TOPIC, INPUT, LITERAL, AclOperation.READ),
    "input: DescribeConfigs": (TOPIC, INPUT, LITERAL, AclOperation.DESCRIBE_CONFIGS),
    "output: Write": (TOPIC, OUTPUT, LITERAL, AclOperation.WRITE),
    "output: DescribeConfigs": (TOPIC, OUTPUT, LITERAL, AclOperation.DESCRIBE_CONFIGS),
    "group: Read": (ResourceType.GROUP, GROUP, LITERAL, AclOperation.READ),
    "transactional ids: Write": (TRANSACTIONS, IDS, PREFIXED, AclOperation.WRITE),
}
QUIET = {"own topics: Create", "own topics: DescribeConfigs", "input: DescribeConfigs", "output: DescribeConfigs"}
"""What an app that has its topics does without: it warns, or has no need of it any more."""
RESOURCES = {
    "own topics: Read": ("{app}.", "Read"),
    "own topics: Write": ("{app}.", "Write"),
    "commands: Delete": ("{app}.commands", "Delete"),
    "input: Read": ("{app}-orders", ""),
    "output: Write": ("{app}-invoices", ""),
    "group: Read": ("group", ""),
    "transactional ids: Write": ("transactional id", "Write"),
}
AT_START = [*sorted(set(NEEDED) - QUIET - {"commands: Delete", "output: Write"}), "own topics: Create"]
RECORDS = 20


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A broker that asks who somebody is on one of its listeners; on the other everybody may do everything."""
    with KafkaCluster(tmp_path_factory.mktemp("guarded"), properties=BROKER, proxied=True) as cluster:
        yield cluster


class Shop:
    """An app with the rights of the user shop, and the operator who gives and takes them."""

    def __init__(self, cluster: KafkaCluster, name: str, folder: Path) -> None:
        self.name, self._folder, self._cluster = name, folder, cluster
        self._admin: Any = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        self.log = KafkaLog(cluster.bootstrap_servers)
        self.orders, self.invoices = INPUT.format(app=name), OUTPUT.format(app=name)
        self.log.create_topic(self.orders, 2, {})
        self.log.create_topic(self.invoices, 1, {})
        self._runs: list[tuple[Worker, KafkaLog]] = []
        self._fed = 0

    def _binding(self, right: str, allow: Any = AclPermissionType.ALLOW, make: Any = AclBinding) -> Any:
        kind, name, pattern, operation = NEEDED[right]
        return make(kind, name.format(app=self.name), pattern, "User:shop", "*", operation, allow)

    def grant(self, *rights: str) -> None:
        for made in self._admin.create_acls([self._binding(right) for right in rights]).values():
            made.result(10)

    def take(self, right: str) -> None:
        for gone in self._admin.delete_acls([self._binding(right, make=AclBindingFilter)]).values():
            assert gone.result(10), right

    def deny_letters(self, *, deny: bool) -> None:
        arguments = (TOPIC, f"{self.name}.dead-letters", LITERAL, "User:shop", "*", AclOperation.WRITE, AclPermissionType.DENY)
        act = self._admin.create_acls([AclBinding(*arguments)]) if deny else self._admin.delete_acls([AclBindingFilter(*arguments)])
        for done in act.values():
            done.result(10)

    def app(self) -> App:
        app = App(self.name)
        orders, invoices = app.topic(self.orders, value=int), app.topic(self.invoices, value=int)
        count, customer = State("count", int, default=0), app.object("customer")

        @customer.on(orders)
        async def ordered(ctx: ObjectContext, value: int) -> None:
            ctx.set(count, ctx.get(count) + 1)
            ctx.publish(invoices, ctx.get(count), key=ctx.key)

        return app

    def start(self) -> Worker:
        log = KafkaLog(self._cluster.proxied_bootstrap_servers, options=SASL, request_timeout_s=5.0)
        settings = Settings(bootstrap_servers="guarded", data_dir=self._folder / str(len(self._runs)), topics_watch_s=1.0)
        worker = Worker(self.app(), log, settings)
        self._runs.append((worker, log))
        worker.start()
        return worker

    def feed(self, *raw: bytes) -> None:
        publisher = self.log.publisher(f"{self.name}-feed")
        numbers = range(self._fed, self._fed + RECORDS)
        outputs = [Output(self.orders, None, b"k%d" % (n % 5), b"%d" % n) for n in numbers]
        outputs += [Output(self.orders, None, b"bad", value) for value in raw]
        publisher.publish(outputs, publisher.position() + len(outputs))
        publisher.close()
        self._fed += RECORDS

    def invoiced(self) -> bool:
        """Each order once, and each customer's count in order."""
        found = values(self.log, Partition(self.invoices, 0))
        assert len(found) <= self._fed, "doubled"
        return sorted(map(int, filter(None, found))) == sorted(n // 5 + 1 for n in range(self._fed))

    def letters(self) -> int:
        topic = self.log.topic(f"{self.name}.dead-letters")
        assert topic is not None
        return sum(len(values(self.log, Partition(topic.name, number))) for number in range(topic.partitions))

    def called(self, caller: str) -> str:
        """Another app calls a handler, and gets an error for an answer: what it passes is no number. Gives the caller's id."""
        key, caller_id = b"k0", fresh_id(b"c", b"abcdefghijkl")
        command = Command(
            "invoke", id=fresh_id(key, b"123456789012"), target="customer/ordered", key=key, payload=b"none",
            caller_app=caller, caller_id=caller_id, ref=0,
        )  # fmt: skip
        topic = self.log.topic(f"{self.name}.commands")
        assert topic is not None
        publisher = self.log.publisher(f"{self.name}-caller")
        publisher.publish([Output(topic.name, id_hash(command.id) % topic.partitions, None, COMMAND.encode(command))], 1)
        publisher.close()
        return caller_id

    def let_tell(self, caller: str) -> None:
        binding = AclBinding(TOPIC, f"{caller}.commands", LITERAL, "User:shop", "*", AclOperation.WRITE, AclPermissionType.ALLOW)
        for made in self._admin.create_acls([binding]).values():
            made.result(10)

    def stop(self) -> None:
        self.stop_workers()
        self.log.close()

    def stop_workers(self) -> None:
        while self._runs:
            worker, log = self._runs.pop()
            worker.stop()
            log.close()


@pytest.fixture
def shop(guarded: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(guarded, topic_prefix, tmp_path)
    yield made
    made.stop()


def told(worker: Worker, right: str, shop: Shop) -> bool:
    """Whether metrics name what is refused."""
    resource, operation = RESOURCES[right]
    wanted = resource.format(app=shop.name)
    return any(
        (found == wanted or (wanted.endswith(".") and found.startswith(wanted))) and operation in ("", how)
        for found, how in worker.snapshot().get("refused", ())
    )


def test_an_app_works_with_exactly_these_rights(shop: Shop) -> None:
    """Input, state, output, dead letter, transactions, lag, another worker, and its hand-over."""
    shop.grant(*NEEDED)
    first = shop.start()
    shop.feed(b"{")
    eventually(shop.invoiced)
    eventually(lambda: shop.letters() == 1)
    second = shop.start()
    eventually(lambda: second.ready and first.ready and bool(second.snapshot().get("shards_owned")))
    shop.feed()
    eventually(shop.invoiced)
    for worker in (first, second):
        assert worker.failed is None
        assert list(worker.snapshot().get("refused", ())) == []
        worker._housekeeping.round()
        assert worker._housekeeping.lag.records, "the ends can be asked for"


@pytest.mark.parametrize("right", sorted(NEEDED))
def test_a_right_taken_away_while_it_runs_is_said_and_waited_for(
    shop: Shop, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.grant(*NEEDED)
    worker = shop.start()
    shop.feed()
    eventually(shop.invoiced)

    shop.take(right)
    time.sleep(0.5)  # brokers learn of it in their own time
    shop.feed()
    if right in QUIET:
        eventually(shop.invoiced)
        return
    eventually(lambda: told(worker, right, shop), 60)
    said = caplog.text
    assert "Kafka refuses" in said and "ACL" in said
    assert shop.letters() == 0, "no record is to blame"
    shop.grant(right)

    eventually(shop.invoiced, 90)
    shop.feed()
    eventually(shop.invoiced, 90)
    assert worker.failed is None
    assert shop.letters() == 0


def attempt(shop: Shop) -> tuple[Worker | None, LogError | None]:
    """What a worker's process does, and repeats: start one."""
    try:
        return shop.start(), None
    except LogError as error:
        return None, error


@pytest.mark.parametrize("right", AT_START)
def test_a_right_that_is_missing_at_the_start_is_said_and_waited_for(
    shop: Shop, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.grant(*(set(NEEDED) - {right}))
    shop.feed()
    worker, refused = attempt(shop)
    if worker is not None:
        eventually(lambda running=worker: told(running, right, shop), 60)
        assert "Kafka refuses" in caplog.text and "ACL" in caplog.text
        shop.grant(right)
    else:
        assert refused is not None, "it starts, or says why it does not"
        assert refused.retriable and refused.refusal is not None, refused
        assert "ACL" in refused.refusal.message
        shop.grant(right)
        time.sleep(0.5)
        worker = shop.start()

    eventually(shop.invoiced, 90)
    assert shop.letters() == 0
    assert worker.failed is None


def test_denied_dead_letters_hold_up_their_own_key_alone(shop: Shop) -> None:
    shop.grant(*NEEDED)
    shop.deny_letters(deny=True)
    worker = shop.start()
    shop.feed(b"{")
    eventually(shop.invoiced, 60)
    shop.feed()
    eventually(shop.invoiced, 60)
    assert worker.failed is None
    assert (f"{shop.name}.dead-letters", "Write") in list(worker.snapshot().get("refused", ()))
    shop.deny_letters(deny=False)
    eventually(lambda: shop.letters() == 1, 90)


def owed(worker: Worker) -> dict[str, int]:
    """By app: answers that wait for it."""
    worker._housekeeping.round()
    standing = worker.snapshot().get("standing")
    return {app: number for app, (number, _) in standing.outboxes.items()} if standing is not None else {}


def test_an_app_that_may_not_be_told_stops_nobody_and_is_told_when_it_may(shop: Shop) -> None:
    """Also after a restart: the answer waits in the journal."""
    shop.grant(*NEEDED)
    caller = f"{shop.name}x"
    shop.log.create_topic(f"{caller}.commands", 1, {})
    worker = shop.start()
    shop.feed()
    eventually(shop.invoiced)
    id_ = shop.called(caller)
    eventually(lambda: owed(worker) == {caller: 1}, 60)
    shop.feed()
    eventually(shop.invoiced, 60)
    assert worker.failed is None
    shop.stop_workers()

    again = shop.start()
    shop.feed()
    eventually(shop.invoiced, 60)
    eventually(lambda: owed(again) == {caller: 1}, 60)
    inbox = Partition(f"{caller}.commands", 0)
    assert values(shop.log, inbox) == []
    shop.let_tell(caller)
    eventually(lambda: values(shop.log, inbox) != [], 90)
    eventually(lambda: owed(again) == {}, 60)
    (raw,) = values(shop.log, inbox)
    answer = COMMAND.decode(raw or b"")
    assert (answer.kind, answer.id, answer.ref) == ("complete", id_, 0)
    assert answer.failure is not None and answer.failure.code == 400
    assert again.failed is None
    assert shop.letters() == 0


@pytest.mark.parametrize("right", ["own topics: Read", "own topics: Write", "own topics: Create", "transactional ids: Write"])
def test_the_secret_of_the_workers_needs_no_further_right(shop: Shop, guarded: KafkaCluster, right: str) -> None:
    """And where one is missing the worker does not start without: it says what to do, and has it when that is done."""
    shop.grant(*(set(NEEDED) - {right}))
    if right == "own topics: Read":  # where there is nothing yet, there is nothing to read
        shop.log.shared_secret(shop.name)
    log = KafkaLog(guarded.proxied_bootstrap_servers, options=SASL, request_timeout_s=5.0)
    try:
        with pytest.raises(LogError, match=rf"{shop.name}\.secret.*private_token") as refused:
            log.shared_secret(shop.name)
        assert refused.value.retriable and refused.value.refusal is not None, refused.value
        assert "ACL" in refused.value.refusal.message
        shop.grant(right)
        eventually(lambda: len(secret_of(log, shop)) == 64, 60)
        assert log.shared_secret(shop.name) == shop.log.shared_secret(shop.name)
    finally:
        log.close()


def secret_of(log: KafkaLog, shop: Shop) -> bytes:
    try:
        return log.shared_secret(shop.name)
    except LogError:  # brokers learn of a right in their own time
        return b""
