"""Another app whose inbox takes nothing for now: what it is owed waits for that, and nobody else does."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from odradek import App, Context, ObjectContext, TerminalError
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.core.topics import refusals
from odradek_runtime.log.port import LogError, Partition, Refusal, Refused, TopicInfo, Transaction
from odradek_runtime.worker.upkeep import census
from odradek_runtime.worker.worker import Worker
from tests.engine.faults import FaultyMember
from tests.engine.harness import Asked, Rig

INBOX = "asker.commands"
HOWS = ("told", "tried", "unanswered")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FIRST_MS", 20.0)
    monkeypatch.setattr(refusals, "LONGEST_MS", 60.0)
    monkeypatch.setattr(census, "TURN_S", 0.02)
    monkeypatch.setattr(census, "EVERY_S", 0.1)


def asker() -> App:
    app = App("asker", shards=2)

    @app.handler
    async def ask(ctx: Context, number: int) -> int:
        try:
            return await ctx.call("answerer/answerer/late", number, returns=int, idempotency_key="0" if number == 0 else None)
        except TerminalError as error:
            return -error.code

    return app


def answerer(shards: int = 1) -> App:
    """Answers the other app after an hour; doubles numbers for everybody else."""
    app = App("answerer", shards=shards)
    numbers, doubled, thing = app.topic("numbers", value=int), app.topic("doubled", value=int), app.object("thing")

    @app.handler
    async def late(ctx: Context, number: int) -> int:
        await ctx.sleep(3_600)
        return 10 * number

    @thing.on(numbers)
    async def double(ctx: ObjectContext, number: int) -> None:
        ctx.publish(doubled, 2 * number, key=ctx.key)

    return app


class Inbox:
    """The asker's, shut for the answerer: it says so before, only when it is tried, or not even that it is there."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str = "told") -> None:
        self.shut: set[str] = set()
        self.looks = 0
        self.poison: bytes | None = None
        self._how, self._look, self._commit = how, rig.log.topic, FaultyMember.commit
        monkeypatch.setattr(rig.log, "topic", self._described)
        monkeypatch.setattr(FaultyMember, "commit", lambda member, transaction: self._committed(member, transaction))

    def _described(self, name: str) -> TopicInfo | None:
        found = self._look(name)
        self.looks += name == INBOX
        if name not in self.shut or found is None:
            return found
        if self._how == "unanswered":
            raise LogError("no answer (a test)")
        return replace(found, writable=self._how != "told")

    def _committed(self, member: FaultyMember, transaction: Transaction) -> None:
        theirs = any(partition.topic == "answerer.commands" for partition in transaction.offsets)
        refused = [topic for topic in (output[0] for output in transaction.outputs) if topic in self.shut]
        if theirs and refused:
            why = Refusal(refused[0], "Write", f"Kafka refuses Write on {refused[0]} (a test): add an ACL")
            member._hear(Refused(transaction.epoch, "aborted", why.message, refusal=why))
        elif self.poison and any(self.poison in (output[3] or b"") for output in transaction.outputs if output[0] == INBOX):
            member._hear(Refused(transaction.epoch, "aborted", "a record was refused (a test)", poison=True))
        else:
            self._commit(member, transaction)


def begin(rig: Rig, count: int = 1, shards: int = 1) -> list[Asked]:
    """Two apps, the one that answers last; so many calls wait for their answers."""
    rig.log.create_topic("doubled", 1, {})
    rig.start(answerer(shards))
    rig.start(asker())
    asked = [rig.ask("asker/ask", number) for number in range(1, count + 1)]
    rig.workers.reverse()
    rig.until(lambda: sum(key[:1] == b"t" for key in rig.journal(answerer())) == count)
    return asked


def anew(rig: Rig, *, crash: bool = False) -> Worker:
    """Another worker of the app that answers, which knows nothing of the other's inbox."""
    return rig.restart(answerer(), crash=crash)


def owed(rig: Rig) -> list[Command]:
    """What waits in the journal for the other app."""
    journal = "answerer.journal"
    shards = [rig.changelog(journal, number) for number in range(rig.partitions(journal))]
    return [COMMAND.decode(value) for shard in shards for key, value in sorted(shard.items()) if key[:1] == b"o"]


def answers(rig: Rig) -> list[tuple[str, int]]:
    """Which calls have been answered, in the order of the inbox."""
    found = [COMMAND.decode(message.value() or b"") for message in rig.records(INBOX)]
    return [(command.id, command.ref) for command in found if command.kind == "complete"]


def goes_on(rig: Rig, first: int) -> None:
    """Everybody else is served."""
    numbers = range(first, first + 30)
    rig.publish("numbers", *[(f"k{number % 3}", number) for number in numbers])
    rig.until(lambda: set(rig.values("doubled")) >= {2 * number for number in numbers})


def told(rig: Rig) -> tuple[int, float] | None:
    standing = rig.worker.snapshot().get("standing")
    assert standing is not None
    return standing.outboxes.get("asker")


@pytest.mark.parametrize("how", HOWS)
def test_an_answer_waits_for_the_inbox_it_goes_to_and_nobody_else_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asked = begin(rig)[0]
    inbox = Inbox(rig, monkeypatch, how)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: owed(rig))
    goes_on(rig, 0)
    assert not asked.replies
    anew(rig, crash=True)
    goes_on(rig, 100)
    rig.until(lambda: owed(rig))

    inbox.shut = set()
    rig.later(2)
    assert asked.value() == 10
    rig.until(lambda: not owed(rig))
    assert len(answers(rig)) == 1


@pytest.mark.parametrize("how", HOWS)
def test_many_answers_wait_and_each_arrives_once_in_their_order(rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    asked = begin(rig, 120)
    inbox = Inbox(rig, monkeypatch, how)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 120)
    waiting = [(command.id, command.ref) for command in owed(rig)]
    anew(rig, crash=True)
    inbox.shut = set()
    rig.later(2)
    assert [each.value() for each in asked] == [10 * number for number in range(1, 121)]
    found = answers(rig)
    assert len(found) == 120 and set(found) == set(waiting)
    for number in range(2):  # of each of the asker's shards
        here = [COMMAND.decode(message.value() or b"") for message in rig.partition(INBOX, number)]
        ids = [command.id for command in here if command.kind == "complete"]
        assert ids == [id_ for id_, _ in waiting if id_ in set(ids)]
    rig.until(lambda: not owed(rig))


def test_what_waits_costs_no_writes_and_few_looks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(rig, 120)
    inbox = Inbox(rig, monkeypatch)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 120)
    rig.settled(answerer())
    written = rig.log.offsets(Partition("answerer.journal", 0))
    before = inbox.looks
    rig.until(lambda: inbox.looks >= before + 5)
    assert rig.log.offsets(Partition("answerer.journal", 0)) == written
    assert inbox.looks < 60, "one look for all that wait"


def test_an_operator_is_told_whom_since_when_and_the_way_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin(rig, 3)
    inbox = Inbox(rig, monkeypatch)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: (told(rig) or (0, 0.0))[0] == 3)
    rig.later(600)
    rig.until(lambda: (told(rig) or (0, 0.0))[1] >= 600)
    assert rig.worker.snapshot().get("refused") == [(INBOX, "Write")]
    assert caplog.text.count("the app 'asker' is owed (answers to its calls) waits") == 1
    assert "add an ACL for Write on the topic" in caplog.text
    inbox.shut = set()
    rig.later(60)
    rig.until(lambda: told(rig) is None and not rig.worker.snapshot().get("refused"))
    assert caplog.text.count("the app 'asker' gets all that has waited for it") == 1


def test_the_next_owner_of_the_shard_tells_what_waited_there(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = begin(rig, 20, shards=4)
    inbox = Inbox(rig, monkeypatch)
    rig.restart(answerer(4))
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 20)
    rig.start(answerer(4))
    first = rig.workers.pop(-2)
    rig.until(lambda: len(rig.worker.snapshot().get("shards_owned", ())) == 2)
    first.stop()
    rig.until(lambda: len(rig.worker.snapshot().get("shards_owned", ())) == 4 and rig.worker.ready)
    assert first.failed is None and len(owed(rig)) == 20
    inbox.shut = set()
    rig.later(2)
    assert [each.value() for each in asked] == [10 * number for number in range(1, 21)]
    assert len(answers(rig)) == 20


def test_what_waits_is_in_the_log_not_in_the_store_alone(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = disk_rig
    asked = begin(rig, 3)
    inbox = Inbox(rig, monkeypatch)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 3)
    rig.stop()
    assert rig.directory is not None
    lost = [path for path in Path(rig.directory).rglob("*") if path.is_dir() and "answerer" in str(path) and path.name == "0"]
    assert lost
    for path in lost:
        shutil.rmtree(path)
    rig.start(answerer())
    inbox.shut = set()
    rig.later(2)
    assert [each.value() for each in asked] == [10, 20, 30]
    assert len(answers(rig)) == 3


def test_an_app_that_is_gone_before_it_could_be_told_leaves_dead_letters(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(rig, 3)
    inbox = Inbox(rig, monkeypatch)
    anew(rig)
    inbox.shut = {INBOX, "answerer.dead-letters"}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 3)
    rig.workers.pop(0).stop()
    for topic in ("commands", "journal", "state", "dead-letters"):
        rig.log.delete_topic(f"asker.{topic}")
    looked = inbox.looks
    rig.until(lambda: inbox.looks >= looked + 3)
    inbox.shut = set()
    rig.later(60)
    rig.until(lambda: len(rig.dead_letters(answerer())) == 3)
    assert {letter["odradek-code"] for letter in rig.dead_letters(answerer())} == {"404"}
    rig.until(lambda: not owed(rig))
    goes_on(rig, 0)


@pytest.mark.parametrize("how", ["told", "tried"])
def test_an_app_that_is_gone_stops_nobody_though_dead_letters_are_denied(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    begin(rig, 3)
    inbox = Inbox(rig, monkeypatch, how)
    rig.workers.pop(0).stop()
    for topic in ("commands", "journal", "state", "dead-letters"):
        rig.log.delete_topic(f"asker.{topic}")
    anew(rig)
    inbox.shut = {"answerer.dead-letters"}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 3)
    goes_on(rig, 0)
    assert rig.dead_letters(answerer()) == []
    inbox.shut = set()
    rig.later(60)
    rig.until(lambda: len(rig.dead_letters(answerer())) == 3)


def test_an_answer_that_aborts_its_epoch_is_found_among_those_that_waited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = begin(rig, 12)
    inbox = Inbox(rig, monkeypatch)
    anew(rig)
    inbox.shut = {INBOX}
    rig.later(3_600)
    rig.until(lambda: len(owed(rig)) == 12)
    inbox.poison = b"\x0470"  # the answer 70, as Avro writes its two bytes
    inbox.shut = set()
    rig.later(60)
    rig.until(lambda: len(rig.dead_letters(answerer())) == 1)
    assert rig.dead_letters(answerer())[0]["odradek-code"] == "500"
    assert [each.value() for each in asked if each is not asked[6]] == [10 * number for number in range(1, 13) if number != 7]
    goes_on(rig, 0)
