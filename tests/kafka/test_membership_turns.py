"""How often the membership thread looks at its consumer: seldom in a quiet group, at once and often when the group moves.

Without a broker: the consumer is a stub that notes when it is looked at, and runs what the test has put in its queue.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from odradek_runtime.log.kafka import membership
from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.membership import Membership, MembershipOptions
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import Event, Losing
from odradek_runtime.log.stamps import Stamps
from tests.kafka.raw import eventually

QUIET_S = 0.5
LIVELY_S = 0.3
RELEASE_S = 0.6  # longer than LIVELY_S: a rebalance is not over when the engine has taken long to let go


class StubConsumer:
    """Notes each look, and runs the next of `moves` in it."""

    def __init__(self) -> None:
        self.looks: list[float] = []
        self.moves: deque[Callable[[], None]] = deque()

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[TopicPartition]], None]) -> None:
        self.callbacks = callbacks

    def poll(self, timeout: float) -> None:
        self.looks.append(time.monotonic())
        if self.moves:
            self.moves.popleft()()

    def move(self, name: str) -> float:
        """One step of a rebalance, in the membership thread; gives when it was over."""
        over = threading.Event()

        def step() -> None:
            self.callbacks[name](self, [TopicPartition("app.commands", 0)])
            over.set()

        self.moves.append(step)
        assert over.wait(30)
        return time.monotonic()

    def gap_after(self, moment: float) -> float:
        """Between the first two looks after a moment."""
        eventually(lambda: sum(look > moment for look in self.looks) >= 2)
        first, second = [look for look in self.looks if look > moment][:2]
        return second - first

    def memberid(self) -> str:
        return "m"

    def consumer_group_metadata(self) -> bytes:
        return b"metadata"

    def _nothing(self, *_: object) -> None: ...

    incremental_assign = incremental_unassign = pause = close = _nothing


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> StubConsumer:
    for name, value in (("QUIET_TURN_S", QUIET_S), ("LIVELY_S", LIVELY_S)):
        monkeypatch.setattr(membership, name, value)
    return StubConsumer()


def join(consumer: StubConsumer, sink: Callable[[Event], None]) -> Membership:
    clients = cast("Clients", SimpleNamespace(consumer=lambda *_: consumer))
    options = MembershipOptions("classic", 6.0, "", RELEASE_S, 1.0)
    return Membership(clients, TroubleReporter("-"), Stamps(), "app", "me", options, sink, lambda _: False)


def quiet(consumer: StubConsumer) -> bool:
    looks = consumer.looks[-2:]
    return len(looks) == 2 and looks[1] - looks[0] >= QUIET_S * 0.9


def test_a_quiet_group_is_looked_at_seldom_and_a_moving_one_often(consumer: StubConsumer) -> None:
    events: list[Event] = []
    member = join(consumer, events.append)
    eventually(lambda: quiet(consumer))

    gained = consumer.move("on_assign")
    assert consumer.gap_after(gained) < QUIET_S / 2
    eventually(lambda: quiet(consumer))
    revoked = consumer.move("on_revoke")  # nobody releases: it takes RELEASE_S
    assert any(isinstance(event, Losing) for event in events)
    assert consumer.gap_after(revoked) < QUIET_S / 2
    eventually(lambda: quiet(consumer))

    assert member.leave(10)


def test_a_quiet_member_answers_at_once(consumer: StubConsumer) -> None:
    member = join(consumer, lambda _: None)
    eventually(lambda: quiet(consumer))
    looks = len(consumer.looks)

    assert [member.metadata(10.0) for _ in range(20)] == [b"metadata"] * 20
    assert member.leave(10)

    assert len(consumer.looks) <= looks + 2, "neither the questions nor the leave waited for its turns"
