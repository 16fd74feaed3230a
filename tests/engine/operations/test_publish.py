"""Records that a handler publishes: checked where they are, and waited for where their topic is not there yet."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from odradek import App, Context
from tests.engine.harness import Rig


@dataclass
class Attempt:
    """One publish to try."""

    topic: str
    size: int = 1
    partition: int | None = None
    seconds_ahead: float | None = None
    key: str | None = "k"


@pytest.mark.parametrize(
    ("attempt", "code", "says"),
    [
        (Attempt("out", size=1_100_000), 413, "over the limit of out"),
        (Attempt("small", size=600), 413, "over the limit of small, 500 bytes"),
        (Attempt("out", partition=4), 400, "partitions 0 to 3, not 4"),
        (Attempt("out", partition=-1), 400, "partitions 0 to 3, not -1"),
        (Attempt("out", seconds_ahead=7200), 400, "up to one hour from now"),
        (Attempt("compacted", key=None), 400, "compacted: every record needs a key"),
    ],
)
def test_publish_is_checked_where_it_is_called(rig: Rig, attempt: Attempt, code: int, says: str) -> None:
    app = App("checks", shards=1)

    @app.handler
    async def put(ctx: Context, what: Attempt) -> None:
        topic = app.topic(what.topic)
        moment = None
        if what.seconds_ahead is not None:
            moment = datetime.now(UTC) + timedelta(seconds=what.seconds_ahead)
        ctx.publish(topic, b"fine", key="before")
        ctx.publish(topic, b"x" * what.size, key=what.key, partition=what.partition, timestamp=moment)

    rig.log.create_topic("out", 4, {})
    rig.log.create_topic("small", 1, {"max.message.bytes": "500"})
    rig.log.create_topic("compacted", 1, {"cleanup.policy": "compact"})
    rig.start(app)
    reply = rig.ask("checks/put", attempt).reply()
    assert reply.failure is not None
    assert reply.failure.code == code
    assert says in reply.failure.message
    assert [m.value() for m in rig.records(attempt.topic)] == [b"fine"], "a terminal error keeps what was done before"


def test_an_unknown_topic_is_waited_for_where_the_log_does_not_create(rig: Rig) -> None:
    """Kafka does not make topics by accident; the invocation goes on when somebody has made it."""
    app = App("absent", shards=1)

    @app.handler
    async def put(ctx: Context) -> str:
        ctx.publish(app.topic("later"), b"x")
        return "done"

    rig.start(app, bootstrap_servers="the embedded log plays Kafka")
    asked = rig.ask("absent/put")
    rig.until(lambda: any("later does not exist" in i.reason for i in rig.invocations(app)))
    rig.log.create_topic("later", 1, {})
    assert asked.value() == "done"
    assert len(rig.records("later")) == 1
