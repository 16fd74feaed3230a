"""Before a worker joins: what is missing or wrong is said, with what to do, and nothing is made by accident."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from odradek import App, Context, ObjectContext
from odradek_runtime.log.port import LogError
from odradek_runtime.worker.restore.startup import INTERNAL, StartupError
from tests.engine.harness import Rig


def reader(shards: int | None = None, topic: str = "orders") -> App:
    app = App("reader", shards=shards)
    orders = app.topic(topic, value=int)
    thing = app.object("thing")

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        ctx.set("n", n)

    return app


KAFKA = {"bootstrap_servers": "the embedded log plays Kafka"}


def refused(rig: Rig, app: App, **settings: Any) -> str:
    with pytest.raises(StartupError) as error:
        rig.begin(app, **settings)
    rig.workers.pop()
    return str(error.value)


def test_an_absent_topic_is_said_with_its_neighbours(rig: Rig) -> None:
    rig.log.create_topic("order", 2, {})
    rig.log.create_topic("weather", 2, {})
    said = refused(rig, reader(), **KAFKA)
    assert "the app 'reader' declares topics that do not exist: orders (read; there is order). Ways out: " in said
    assert "weather" not in said and "--create-topics" in said and "odradek topics -b … --create NAME --partitions 8" in said
    assert list(rig.log.topics()) == ["order", "weather"], "nothing was made"


def clerk(shards: int | None = None) -> App:
    """Reads two topics, writes two."""
    app = reader(shards)
    app.on(app.topic("returns", value=int))(make_handler(0))
    for name in ("invoices", "receipts"):
        app.topic(name, value=int)
    return app


def test_all_that_is_missing_is_named_at_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.log.create_topic("returns", 3, {})
    said = refused(rig, clerk(), **KAFKA)
    assert "orders (read), invoices (written), receipts (written)" in said
    assert "returns" not in said and "reader.dead-letters" not in said
    assert "makes each with 3 partitions" in said and "--create NAME --partitions 3" in said
    assert list(rig.log.topics()) == ["returns"], "nothing was made"

    rig.log.create_topic("orders", 2, {})
    rig.log.create_topic("invoices", 2, {})
    rig.start(clerk(), **KAFKA)  # what would be written to it waits, all else goes on
    (warning,) = [record.message for record in caplog.records if "do not exist" in record.message]
    assert "do not exist: receipts (written). Ways out: " in warning and "--create-topics" in warning
    assert rig.log.topic("receipts") is None


@pytest.mark.parametrize(("shards", "expected"), [(5, 5), (None, 3)])
def test_what_is_missing_is_made_where_that_is_asked_for(
    rig: Rig, shards: int | None, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "odradek")
    rig.log.create_topic("returns", 3, {})
    assert rig.start(clerk(shards), create_topics=True, **KAFKA).shards == expected
    for name in ("orders", "invoices", "receipts"):
        made = rig.log.topic(name)
        assert made is not None and made.partitions == expected
        assert f"created topic {name} with {expected} partitions, replication factor 1" in caplog.messages
    returns = rig.log.topic("returns")
    assert returns is not None and returns.partitions == 3


def test_topics_that_are_missing_later_have_as_many_partitions_as_there_are_shards(rig: Rig) -> None:
    rig.start(reader(4), create_topics=True, **KAFKA)
    rig.stop()
    rig.start(clerk(), create_topics=True, **KAFKA)
    returns = rig.log.topic("returns")
    assert returns is not None and returns.partitions == 4


def test_the_embedded_log_makes_outputs_when_they_are_written_to(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.start(clerk())
    assert rig.log.topic("invoices") is None
    assert "do not exist" not in caplog.text


def test_the_embedded_log_makes_what_is_missing(rig: Rig) -> None:
    rig.start(reader(3))
    info = rig.log.topic("orders")
    assert info is not None and info.partitions == 3
    for name, config in INTERNAL.items():
        made = rig.log.topic(f"reader.{name}")
        assert made is not None and made.partitions == 3
        assert {option: made.config[option] for option in config} == dict(config)
    assert rig.log.topic("reader.dead-letters") is not None


@pytest.mark.parametrize(("partitions", "shards", "expected"), [([5, 3], None, 5), ([2], 7, 7), ([], None, 8)])
def test_the_number_of_shards(rig: Rig, partitions: list[int], shards: int | None, expected: int) -> None:
    app = App("numbers", shards=shards)

    @app.handler
    async def go(ctx: Context) -> None:
        return None

    for number, count in enumerate(partitions):
        rig.log.create_topic(f"in{number}", count, {})
        app.on(app.topic(f"in{number}", value=int))(make_handler(number))
    assert rig.start(app).shards == expected


def make_handler(number: int) -> Any:
    async def take(ctx: Context, n: int) -> None:
        return None

    take.__name__ = f"take{number}"
    return take


def test_another_number_of_shards_is_refused(rig: Rig) -> None:
    rig.start(reader(2))
    rig.stop()
    said = refused(rig, reader(4))
    assert said.startswith("App('reader', shards=4), but reader.commands has 2 partitions")
    assert "use shards=2, or a new app name" in said
    assert rig.start(reader()).shards == 2, "what the app was made with stands"


def test_a_journal_of_another_number_of_shards_is_refused(rig: Rig) -> None:
    """The topics were made anew with another count, and filled from a copy: their first record says what they were."""
    rig.start(reader(2))
    rig.publish("orders", ("k", 1))
    rig.settled(reader(2))
    rig.stop()
    raw = rig.changelog("reader.journal", 0)[b"p"]
    for name, config in INTERNAL.items():
        rig.log.create_topic(f"copy.{name}", 3, config)
    rig.publish("copy.journal", (b"p", raw), partition=0)
    copy = App("copy", shards=3)
    worker = rig.begin(copy)
    deadline = rig.until_failed(worker)
    assert isinstance(deadline, LogError)
    assert "was made with 2 shards and is started with 3: set App(shards=2)" in str(deadline)
    assert not worker.ready
    rig.workers.pop().stop()


@pytest.mark.parametrize(
    ("topic", "config", "says"),
    [
        ("commands", {"cleanup.policy": "delete", "retention.ms": "1000"}, "retention.ms=1000 and must have retention.ms=-1"),
        ("journal", {"cleanup.policy": "delete"}, "cleanup.policy=delete and must have cleanup.policy=compact"),
        ("state", {"cleanup.policy": "compact,delete"}, "cleanup.policy=compact,delete and must have cleanup.policy=compact"),
    ],
)
def test_internal_topics_of_another_configuration_are_refused(rig: Rig, topic: str, config: dict[str, str], says: str) -> None:
    rig.log.create_topic(f"reader.{topic}", 2, config)
    said = refused(rig, reader(2))
    assert says in said
    assert f"kafka-configs --alter --entity-type topics --entity-name reader.{topic} --add-config" in said


def test_changelogs_are_not_compacted_before_a_torn_epoch_can_be_put_right(rig: Rig) -> None:
    """What a torn epoch has written must not replace the value before it: that is still needed."""
    rig.start(reader(2))
    for name in ("journal", "state"):
        topic = rig.log.topic(f"reader.{name}")
        assert topic is not None
        assert int(topic.config["min.compaction.lag.ms"]) >= 60_000


def test_internal_topics_of_another_size_are_refused(rig: Rig) -> None:
    rig.log.create_topic("reader.state", 3, INTERNAL["state"])
    assert "topic reader.state has 3 partitions and must have 2" in refused(rig, reader(2))


def test_dead_letters_do_not_go_to_a_compacted_topic(rig: Rig) -> None:
    """It would refuse the first letter without a key, and with it every epoch that holds one."""
    rig.log.create_topic("reader.dead-letters", 2, {"cleanup.policy": "compact"})
    said = refused(rig, reader(2))
    assert "reader.dead-letters takes dead letters and is compacted" in said
    assert "--add-config cleanup.policy=delete" in said


def test_the_lifespan_is_open_while_the_worker_runs(rig: Rig) -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        told.append(f"{app.name} opens")
        yield
        told.append("closes")

    app = App("living", shards=1, lifespan=lifespan)

    @app.handler
    async def go(ctx: Context) -> list[str]:
        return await ctx.run(lambda: list(told), name="look", returns=list[str])

    rig.start(app)
    assert rig.call("living/go") == ["living opens"]
    rig.stop()
    assert told == ["living opens", "closes"]
