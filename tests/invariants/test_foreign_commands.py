"""Commands that other apps write stop nobody: neither an app that has gone since it called, nor an id that is none."""

import pytest

from odradek_runtime.formats import COMMAND, Command
from odradek_runtime.log.port import Output
from odradek_runtime.log_embedded import EmbeddedLog
from odradek_runtime.routing import fresh_id
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
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


@pytest.mark.parametrize("bad", [command("no id"), command(caller_app="gone", caller_id="no id")])
def test_a_command_with_an_id_that_is_none_is_a_dead_letter(stage: MakeStage, log: EmbeddedLog, bad: bytes) -> None:
    here = written(stage, log, bad, command())

    here.until(lambda: total(here) == b"1")
    here.until(lambda: here.quiet)

    (letter,) = [m for batch in log.scan(here.letters, *log.offsets(here.letters)) for m in batch]
    assert b"with an id that is none" in (dict(letter.headers() or ())["odradek-error"] or b"")
