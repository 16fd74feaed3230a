"""A topic that takes nothing for now: its records are nobody's fault, their invocations wait, all others go on."""

from dataclasses import replace

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, State
from odradek_runtime.core.topics import refusals
from odradek_runtime.core.topics.refusals import Pause, Refusals
from odradek_runtime.log.port import Partition, Refusal, Refused, TopicInfo, Transaction
from tests.engine.faults import FaultyMember
from tests.engine.harness import Rig


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FIRST_MS", 20.0)
    monkeypatch.setattr(refusals, "LONGEST_MS", 60.0)


def splitter() -> App:
    """Odd numbers go to one topic, even ones to another."""
    app = App("splitter", shards=1)
    numbers, odd, even = app.topic("numbers", value=int), app.topic("odd", value=int), app.topic("even", value=int)
    seen, thing = State("seen", int, default=0), app.object("thing")

    @thing.on(numbers)
    async def split(ctx: ObjectContext, number: int) -> None:
        ctx.set(seen, ctx.get(seen) + 1)
        ctx.publish(odd if number % 2 else even, number, key=ctx.key)

    return app


class Brokers:
    """They let nothing into one topic, and say so before (a client can ask) or only when it is tried."""

    def __init__(self, rig: Rig, topic: str, *, told: bool) -> None:
        self.shut, self._topic, self._told = True, topic, told
        self.refused = 0
        self._rig, self._look = rig, rig.log.topic
        rig.log.topic = self._described  # type: ignore[method-assign]
        self._commit = FaultyMember.commit

    def _described(self, name: str) -> TopicInfo | None:
        found = self._look(name)
        return replace(found, writable=False) if found is not None and self.shut and self._told and name == self._topic else found

    def commit(self, member: FaultyMember, transaction: Transaction) -> None:
        if self.shut and any(output[0] == self._topic for output in transaction.outputs):
            self.refused += 1
            why = Refusal(self._topic, "Write", f"Kafka refuses Write on {self._topic} (a test): add an ACL")
            member._hear(Refused(transaction.epoch, "aborted", why.message, refusal=why))
        else:
            self._commit(member, transaction)


def waiting(rig: Rig) -> dict[str, int]:
    assert rig.worker._engine is not None
    return rig.worker._engine.machine.targets.unavailable.waiting


@pytest.mark.parametrize("told", [True, False])
def test_records_for_a_topic_that_is_shut_wait_and_all_others_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    brokers = Brokers(rig, "odd", told=told)
    monkeypatch.setattr(FaultyMember, "commit", lambda member, transaction: brokers.commit(member, transaction))
    for name in ("odd", "even"):
        rig.log.create_topic(name, 1, {})
    rig.start(splitter())
    rig.publish("numbers", *[(f"k{number % 4}", number) for number in range(40)])
    rig.until(lambda: sorted(rig.values("even")) == list(range(0, 40, 2)))
    rig.until(lambda: waiting(rig))
    rig.until(lambda: rig.worker.snapshot().get("refused") == [("odd", "Write")])  # it is tried again and again, and found shut
    assert caplog.text.count("Kafka refuses Write on") == (1 if told else caplog.text.count("epoch") + 1) or not told
    assert rig.values("odd") == []

    brokers.shut = False

    rig.until(lambda: sorted(rig.values("odd")) == list(range(1, 40, 2)))
    assert [rig.state(splitter(), "thing", f"k{key}", "seen") for key in range(4)] == [10] * 4
    assert rig.dead_letters(splitter()) == []
    rig.until(lambda: not waiting(rig))


def test_what_an_object_publishes_stays_in_order_past_a_refusal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    brokers = Brokers(rig, "odd", told=False)
    monkeypatch.setattr(FaultyMember, "commit", lambda member, transaction: brokers.commit(member, transaction))
    for name in ("odd", "even"):
        rig.log.create_topic(name, 1, {})
    rig.start(splitter())
    rig.publish("numbers", *[("k", number) for number in range(1, 40, 2)])
    rig.until(lambda: brokers.refused >= 2)
    brokers.shut = False
    rig.until(lambda: rig.values("odd") == list(range(1, 40, 2)))


@pytest.mark.parametrize("told", [True, False])
def test_a_bad_record_waits_for_dead_letters_that_are_denied(rig: Rig, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    brokers = Brokers(rig, "splitter.dead-letters", told=told)
    monkeypatch.setattr(FaultyMember, "commit", lambda member, transaction: brokers.commit(member, transaction))
    for name in ("odd", "even"):
        rig.log.create_topic(name, 1, {})
    rig.start(splitter())
    rig.publish("numbers", ("bad", b"{"), *[("k", number) for number in range(10)])
    rig.until(lambda: len(rig.values("odd") + rig.values("even")) == 10)
    rig.publish("numbers", *[("bad", number) for number in range(10)])
    rig.until(lambda: brokers.refused or told)
    assert rig.dead_letters(splitter()) == []
    brokers.shut = False
    rig.until(lambda: len(rig.dead_letters(splitter())) == 1)
    rig.until(lambda: len(rig.values("odd") + rig.values("even")) == 20)


def test_the_apps_own_topics_refused_stand_all_of_it_still_and_lose_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("odd", "even"):
        rig.log.create_topic(name, 1, {})
    shut = [True]
    refused: list[int] = []
    commit = FaultyMember.commit

    def refuse(member: FaultyMember, transaction: Transaction) -> None:
        if shut[0] and transaction.outputs:
            refused.append(transaction.epoch)
            why = Refusal("splitter.journal", "Write", "Kafka refuses Write on splitter.journal (a test): add an ACL")
            member._hear(Refused(transaction.epoch, "aborted", why.message, refusal=why))
        else:
            commit(member, transaction)

    monkeypatch.setattr(FaultyMember, "commit", refuse)
    shut[0] = False
    rig.start(splitter())
    shut[0] = True
    rig.publish("numbers", *[("k", number) for number in range(10)])
    rig.until(lambda: len(refused) >= 3)
    assert rig.worker.snapshot().get("refused") == [("splitter.journal", "Write")]
    shut[0] = False
    rig.until(lambda: len(rig.values("odd") + rig.values("even")) == 10)
    assert rig.dead_letters(splitter()) == []


def test_an_absent_topic_never_exhausts_an_invocation(rig: Rig) -> None:
    app = App("absent", shards=1)
    later = app.topic("later", value=int)

    @app.handler(retry=RetryPolicy(max_attempts=1))
    async def put(ctx: Context) -> str:
        ctx.publish(later, 1)
        return "put"

    rig.log.create_topic("unrelated", 1, {})
    rig.start(app, bootstrap_servers="the embedded log plays Kafka")
    asked = rig.ask("absent/put")
    rig.until(lambda: waiting(rig))
    rig.log.create_topic("later", 1, {})
    assert asked.value() == "put"
    assert rig.log.offsets(Partition("later", 0)) == (0, 1)


def test_a_pause_grows_and_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FIRST_MS", 1_000.0)
    monkeypatch.setattr(refusals, "LONGEST_MS", 30_000.0)
    pause, now_ms, lengths = Pause(), 0.0, []
    for _ in range(7):
        lengths.append(pause.begin(now_ms))
        now_ms = pause.until_ms
        assert not pause.lasts(now_ms) and pause.lasts(now_ms - 1)
    assert lengths == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert pause.begin(now_ms + 100_000) == 1_000


def test_a_refusal_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    noted, why = Refusals(), Refusal("orders", "Read", "Kafka refuses Read on orders: add an ACL")
    for now_ms in range(0, 60_000, 5_000):
        noted.note(why, now_ms)
    assert caplog.text.count("refuses Read on orders") == 1
    assert noted.current(60_000) == [why] and noted.current(200_000) == []
    noted.note(why, 200_000)
    assert caplog.text.count("refuses Read on orders: add") == 2
    noted.mended("orders")
    assert "no longer refuses Read on orders" in caplog.text


@pytest.mark.parametrize("told", [True, False])
def test_a_timeout_ends_it_though_its_dead_letter_has_to_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    app = App("splitter", shards=1)
    numbers, odd, thing = app.topic("numbers", value=int), app.topic("odd", value=int), app.object("thing")

    @thing.on(numbers)
    @thing.handler(timeout=60)
    async def slow(ctx: ObjectContext, number: int) -> None:
        if ctx.key == "slow":
            await ctx.sleep(3_600)
        ctx.publish(odd, number, key=ctx.key)

    rig.log.create_topic("odd", 1, {})
    brokers = Brokers(rig, "splitter.dead-letters", told=told)
    monkeypatch.setattr(FaultyMember, "commit", lambda member, transaction: brokers.commit(member, transaction))
    rig.start(app)
    rig.publish("numbers", ("slow", 1), ("slow", 2))
    rig.until(lambda: len(rig.invocations(app)) == 2)
    rig.later(61)
    rig.publish("numbers", ("k", 3))
    rig.until(lambda: rig.values("odd") == [3])
    rig.until(lambda: rig.worker.snapshot().get("refused"))
    rig.publish("numbers", ("k", 4))
    rig.until(lambda: rig.values("odd") == [3, 4])
    brokers.shut = False
    rig.until(lambda: len(rig.dead_letters(app)) == 1)
    assert rig.dead_letters(app)[0]["odradek-code"] == "504"
    rig.later(61)
    rig.until(lambda: len(rig.dead_letters(app)) == 2)
    assert rig.values("odd") == [3, 4]
