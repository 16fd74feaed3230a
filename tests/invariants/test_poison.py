"""One bad output does not poison its neighbours: the epoch is split until the culprit stands alone, and its policy applies."""

from functools import partial

from odradek_runtime.core.records.request import Reply
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition, Transaction
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.stage import Stage

BAD = b"bad=1"
IN = Partition("counting-in", 0)
COMMANDS = "counting.commands"


def refuse_the_bad_one(here: Stage) -> list[int]:
    """As the log would: whatever holds the bad record is refused. Gives the number of outputs of each epoch that was sent."""
    sizes: list[int] = []

    def outputs(sent: Transaction) -> list[bytes | None]:
        return [value for topic, _, _, value, *_ in sent.outputs if topic == "counting-out"]

    def turn() -> bool:
        held = here.member.held
        if held is not None:
            values = outputs(held)
            sizes.append(len(values))
            if BAD in values:
                here.refuse("aborted", poison=True)
            else:
                here.member.let_through()
        return held is None and here.position(IN) == 40 and here.quiet

    here.until(turn, commits=False)
    return sizes


def at_least(replies: list[Reply], number: int) -> bool:
    return len(replies) >= number


def test_a_poisonous_output_is_found_and_its_neighbours_commit(stage: MakeStage) -> None:
    here = stage(counting()).open()
    here.publish("counting-in", *[("bad" if n == 17 else f"k{n}", 1) for n in range(40)])

    sizes = refuse_the_bad_one(here)

    assert sorted(here.values("counting-out")) == sorted(f"k{n}=1" for n in range(40) if n != 17), "every neighbour, once"
    assert len(here.values("counting.dead-letters")) == 1, "the culprit goes where its subscription says"
    assert here.machine.shards[0].read(b"scounter/bad/count") in (None, b"1")
    assert len(sizes) < 40, "found by halving, not one by one"
    assert sum(size > 20 for size in sizes) == 1, "and what commits in between, a barrier, does not undo a halving"


def test_a_poisonous_command_is_found_though_it_runs_nothing(stage: MakeStage, log: EmbeddedLog) -> None:
    """Nobody can read it, and the log does not even take the dead letter that holds it."""
    here = stage(counting()).open()
    publisher = log.publisher("somebody")
    publisher.publish([Output(COMMANDS, 0, None, b"%d" % number) for number in range(20)], 1)
    publisher.close()

    def letters() -> list[str]:
        return here.values("counting.dead-letters")

    def turn() -> bool:
        held = here.member.held
        if held is not None:
            if any(value == b"13" for _, _, _, value, *_ in held.outputs):
                here.refuse("aborted", poison=True)
            else:
                here.member.let_through()
        return len(letters()) == 20 and here.quiet

    here.until(turn, commits=False)
    assert sorted(letters()) == sorted(["", *(str(number) for number in range(20) if number != 13)]), "its letter tells of it"


def test_after_the_culprit_epochs_are_large_again(stage: MakeStage) -> None:
    here = stage(counting(), epoch_events=64).open()
    here.publish("counting-in", *[("bad" if n == 17 else f"k{n}", 1) for n in range(40)])
    refuse_the_bad_one(here)
    here.until(lambda: here.quiet)
    replies: list[Reply] = []
    for number in range(1, 9):  # each commit doubles the size
        here.ask("counter/total", key="k", replies=replies)
        here.until(partial(at_least, replies, number))

    assert not here.machine.splitting
