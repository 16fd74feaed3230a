"""Commands that other apps write stop nobody: neither an app that has gone since it called, nor what does not fit what it names."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from odradek_runtime.core.lifecycle.inspection import REMEDY, YEAR_10000_MS
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.core.records.request import Failure
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output
from odradek_runtime.routing import fresh_id, shard_of
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.hostile import ENDED, KEY, SHARDS, Open, open_stage
from tests.invariants.stage import Stage

ID, CALLER = fresh_id(b"k", b"123456789012"), fresh_id(b"c", b"abcdefghijkl")


def command(id_: str = ID, *, caller_app: str = "", caller_id: str = "") -> bytes:
    """Adds 1 to k."""
    made = Command(kind="invoke", id=id_, target="counter/add", key=b"k", payload=b"1", caller_app=caller_app, caller_id=caller_id)
    return COMMAND.encode(made)


def written(stage: MakeStage, log: EmbeddedLog, *values: bytes) -> Stage:
    here = stage(counting()).open()
    publisher = log.publisher("another-app")
    publisher.publish([Output("counting.commands", 0, None, value) for value in values], 1)
    publisher.close()
    return here


def total(here: Stage) -> bytes | None:
    return here.machine.shards[0].read(b"scounter/k/count")


def test_a_result_for_an_app_that_has_gone_is_a_dead_letter(stage: MakeStage, log: EmbeddedLog) -> None:
    after = command(fresh_id(b"k", b"after-------"))
    here = written(stage, log, command(caller_app="gone", caller_id=CALLER), after)

    here.until(lambda: total(here) == b"2")
    here.until(lambda: here.quiet)

    (letter,) = [m for batch in log.scan(here.letters, *log.offsets(here.letters)) for m in batch]
    told = dict(letter.headers() or ())
    assert told["odradek-code"] == b"404"
    assert b"gone.commands does not exist" in (told["odradek-error"] or b"")
    found = COMMAND.decode(letter.value() or b"")
    assert (found.kind, found.id, found.payload) == ("complete", CALLER, b"1"), "nothing of it is lost"
    assert log.topic("gone.commands") is None


INVOKE = Command("invoke", id=ID, target="counter/add", key=b"k", payload=b"1")
COMPLETE = Command("complete", id=ID, ref=0, payload=b"1")
FORWARD = Command("forward", target="counter/counted", key=b"k", payload=b"1", topic="counting-in", partition=0, offset=7)
BAD: list[tuple[str, Command]] = [
    ("id", replace(INVOKE, id="no id")),
    ("id", replace(INVOKE, id="inv_" + "\u017f" * 26)),
    ("id", replace(INVOKE, id=ID.upper().replace("INV", "inv"))),
    ("caller_id", replace(INVOKE, caller_app="gone", caller_id="no id", ref=0)),
    ("caller_app", replace(INVOKE, caller_app="a b", caller_id=CALLER, ref=0)),
    ("caller_app", replace(INVOKE, caller_app="x" * 300, caller_id=CALLER, ref=0)),
    ("caller_app", replace(INVOKE, caller_app="gone")),
    ("ref", replace(INVOKE, caller_app="gone", caller_id=CALLER, ref=-2)),
    ("ref", replace(INVOKE, caller_app="gone", caller_id=CALLER, ref=2**31)),
    ("at_ms", replace(INVOKE, at_ms=-1)),
    ("at_ms", replace(INVOKE, at_ms=YEAR_10000_MS)),
    ("at_ms", replace(INVOKE, at_ms=2**63 - 1)),
    ("target", replace(INVOKE, target="")),
    ("target", replace(INVOKE, target="a b/c")),
    ("key", replace(INVOKE, key=b"")),
    ("key", replace(INVOKE, target="counting/ping")),
    ("id", replace(COMPLETE, id="")),
    ("ref", replace(COMPLETE, ref=-1)),
    ("ref", replace(COMPLETE, ref=2**40)),
    ("failure", replace(COMPLETE, failure=Failure(500, "no"))),
    ("failure.code", replace(COMPLETE, payload=None, failure=Failure(200, "yes"))),
    ("target", replace(FORWARD, target="counter/add")),
    ("target", replace(FORWARD, topic="counting-out")),
    ("offset", replace(FORWARD, offset=-1)),
    ("partition", replace(FORWARD, partition=2**31)),
    ("topic_id", replace(FORWARD, topic_id="x" * 300)),
    ("id", Command("barrier", id="")),
    ("id", Command("barrier", id="1.1.1")),
    ("kind", Command("promise", id=ID)),
]


def letters(here: Stage) -> list[dict[str, str]]:
    found = [m for batch in here.log.scan(here.letters, *here.log.offsets(here.letters)) for m in batch]
    return [{name: (text or b"").decode() for name, text in m.headers() or ()} for m in found]


@pytest.mark.parametrize(("field", "bad"), BAD, ids=[f"{bad.kind} {field} {n}" for n, (field, bad) in enumerate(BAD)])
def test_a_command_that_says_what_cannot_be_is_a_dead_letter(stage: MakeStage, log: EmbeddedLog, field: str, bad: Command) -> None:
    here = written(stage, log, COMMAND.encode(bad), command(fresh_id(b"k", b"after-------")))

    here.until(lambda: total(here) == b"1")
    here.until(lambda: here.quiet)

    (letter,) = (each for each in letters(here) if each.get("odradek-topic"))
    assert letter["odradek-field"] == field
    assert letter["odradek-error"].startswith(f"a command {bad.kind!r}: {field}: ")
    assert letter["odradek-error"].endswith(REMEDY)
    assert (letter["odradek-topic"], letter["odradek-partition"]) == ("counting.commands", "0")
    assert int(letter["odradek-offset"]) >= 0
    assert here.machine.metrics.dead_letters == len(letters(here))


@pytest.mark.parametrize("bad", [INVOKE, COMPLETE, FORWARD], ids=["invoke", "complete", "forward"])
def test_a_command_for_another_shard_is_a_dead_letter(log: EmbeddedLog, stage: MakeStage, bad: Command) -> None:
    """Its key would have two states, and two invocations at once."""
    here = stage(counting(shards=2)).open()
    publisher = log.publisher("another-app")
    publisher.publish([Output("counting.commands", 1 - shard_of(b"k", 2), None, COMMAND.encode(bad))], 1)
    publisher.close()

    here.until(lambda: here.machine.metrics.dead_letters == 1)

    here.until(lambda: here.quiet)
    assert all(shard.read(b"scounter/k/count") is None for shard in here.machine.shards.values())


@pytest.fixture
def busy(log: EmbeddedLog) -> Iterator[Open]:
    made = open_stage(log)
    yield made
    made.stage.close()


@pytest.mark.parametrize("state", ["inboxed", "scheduled", "stepping", "paused", "backing_off"])
def test_a_result_for_what_waits_for_none_is_a_dead_letter(busy: Open, state: str) -> None:
    """One that is queued would start out of its turn; a step would be given a result that it does not have."""
    busy.write(Command("complete", id=busy.ids[state], ref=0, payload=b"-1"))
    busy.settle()

    (letter,) = busy.letters()
    assert letter["odradek-field"] == ("id" if state in ("inboxed", "scheduled") else "ref")
    busy.judge()


def test_a_result_for_a_call_that_was_never_made_is_a_dead_letter(busy: Open) -> None:
    busy.write(Command("complete", id=busy.ids["calling"], ref=1, payload=b"-1"))
    busy.settle()

    (letter,) = busy.letters()
    assert "has no entry 1 in its journal" in letter["odradek-error"]
    busy.judge()


@pytest.mark.parametrize("state", ["ended", "absent"])
def test_a_result_that_comes_too_late_is_let_go(busy: Open, state: str) -> None:
    """Its caller has ended meanwhile, as a timeout makes it: no flaw of the command."""
    busy.write(Command("complete", id=busy.ids[state], ref=0, payload=b"-1"))
    busy.settle()

    assert busy.letters() == []
    busy.judge()


def test_an_id_stands_for_one_invocation_alone(busy: Open) -> None:
    """Else whoever knows an id is told the result of what is not its own."""
    taken = busy.invoke(busy.ids["ended"], "tally/held", -1)
    taken.key = ENDED.encode()
    busy.write(taken)
    busy.settle()

    (letter,) = busy.letters()
    assert letter["odradek-field"] == "id"
    busy.judge()


def test_who_waits_for_a_start_that_is_refused_is_told(busy: Open) -> None:
    """An honest app may name a key that its callee does not take: the call fails, it does not hang."""
    log = busy.stage.log
    log.create_topic("caller.commands", 1, {})
    refused = Command("invoke", id=fresh_id(None, b"123456789012", hash_=0), target="open/outer", key=b"k", payload=b"-1")
    refused.caller_app, refused.caller_id, refused.ref = "caller", CALLER, 3
    busy.write(refused)
    busy.settle()

    busy.stage.until(lambda: busy.stage.values_raw("caller.commands"))
    (told,) = map(COMMAND.decode, busy.stage.values_raw("caller.commands"))
    assert (told.kind, told.id, told.ref) == ("complete", CALLER, 3)
    assert told.failure is not None
    assert (told.failure.code, told.failure.metadata) == (400, {"field": "key"})
    busy.judge()


def test_a_barrier_that_nobody_wrote_opens_nothing(busy: Open) -> None:
    """Until its own has been read back a shard hands nothing over: an empty one would be taken for it."""
    shard = busy.stage.machine.shards[shard_of(KEY.encode(), SHARDS)]
    with busy.stage.engine_loop():
        busy.stage.machine.outward.request_barrier(shard)
    busy.throw(COMMAND.encode(Command("barrier", id="")), shard.number)
    busy.stage.until(lambda: busy.letters(), commits=True)

    assert busy.letters()[0]["odradek-field"] == "id"
    busy.settle()
    busy.judge()
