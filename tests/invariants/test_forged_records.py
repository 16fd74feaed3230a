"""Records that nobody can tell from the app's own falsify its work (rights keep them out), but end no worker."""

import random
import time
from typing import Any

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import CHUNK, COMMAND, INVOCATION, LOCK, SLOT, TIMER, Format, Timer
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Message
from odradek_runtime.routing import id_hash
from tests.invariants.hostile import BESIDE, ENDED, KEY, SHARDS, STATES, Open, app
from tests.invariants.stage import Stage
from tests.invariants.strangers import plausible, put
from tests.records import committed

FORMATS: dict[bytes, Format[Any]] = {
    b"i": INVOCATION, b"j": CHUNK, b"l": LOCK, b"q": SLOT, b"t": TIMER, b"a": COMMAND, b"z": SLOT,
}  # fmt: skip
NUMBERS = (-1, 0, 1, 5, 2**31 - 1, 2**40, 10**14)
WORDS = (
    "", "tally/add", "tally/held", "open/outer", "x/y", "a b", "open", "gone", "running", "inboxed", "scheduled", "paused",
    "completed", "failed", "backing_off", "sleep", "step", "retry", "start", "purge", "timeout", "call", "send", "completion",
)  # fmt: skip
REFS = (-5, -4, -3, -2, 0, 1, 2)
SOAK_S = 60.0
TURNS = 60
DAYS_MS = 90_000_000


def twist(rng: random.Random, value: Any, ids: list[str]) -> None:
    """Make one field of a struct something else of its type."""
    name = rng.choice(value.__struct_fields__)
    match getattr(value, name):
        case bool():
            return
        case int() as number:
            setattr(value, name, rng.choice((*NUMBERS, number + 1, number - 1)))
        case str():
            setattr(value, name, rng.choice((*ids, *WORDS)))
        case float():
            setattr(value, name, rng.choice((0.0, 5.5, 1e12, 1e15)))
        case None | bytes():
            setattr(value, name, rng.choice((None, b"", b"a", b"1", b"{")))
        case [first, *_] if name == "entries":
            twist(rng, first, ids)
        case _:
            return


def forged(rng: random.Random, genuine: Message, ids: list[str]) -> tuple[int, bytes, bytes | None] | None:
    """A copy with fields, or the key, made something else; None when that cannot be written."""
    key = genuine.key() or b""
    format_ = FORMATS[key[:1]]
    value = format_.decode(genuine.value() or b"")
    for _ in range(rng.randrange(3)):
        twist(rng, value, ids)
    if rng.random() < 0.4:
        key = key.replace(rng.choice(ids).encode(), rng.choice(ids).encode())
        if key[:1] == b"t":
            key = key[:-4] + rng.choice(REFS).to_bytes(4, "big", signed=True)
    try:
        return genuine.partition(), key, None if rng.random() < 0.1 else format_.encode(value)
    except (ValueError, TypeError, OverflowError, AttributeError):
        return None


def live_on(seed: int) -> None:
    """Forged records under an app with work under way; its next engine runs for days, and asks of every key."""
    rng, log = random.Random(seed), EmbeddedLog(None, fsync=False, clean_interval_s=0)
    here = Open(Stage(app(), log))
    try:
        ids = [here.ids[state] for state in STATES]
        genuine = [m for m in committed(log, "open.journal") if (m.key() or b"")[:1] in FORMATS and m.value()]
        made = [forged(rng, rng.choice(genuine), ids) for _ in range(rng.randrange(1, 25))]
        put(log, "open.journal", [each for each in made if each is not None and plausible(*each)])
        here.pass_epochs()
        here.reopen()
        for days in range(3):
            for key in (KEY, BESIDE, ENDED):
                here.stage.ask("tally/add", -1, key=key)
            here.run_on(TURNS)
            here.stage.later(days * DAYS_MS)
    finally:
        here.stage.close()
        log.close()


@pytest.mark.parametrize("seed", range(20))
def test_forged_records_end_no_worker(seed: int) -> None:
    live_on(seed)


def test_a_timer_of_a_step_for_what_is_none_is_dropped() -> None:
    log = EmbeddedLog(None, fsync=False, clean_interval_s=0)
    here = Open(Stage(app(), log))
    try:
        id_ = here.ids["calling"]
        number = id_hash(id_) % SHARDS
        timers = [keys.timer(0, id_, ref) for ref in range(3)]
        put(log, "open.journal", [(number, key, TIMER.encode(Timer("step"))) for key in timers])
        here.pass_epochs()
        here.reopen()
        here.run_on(TURNS)
        assert [here.stage.machine.shards[number].read(key) for key in timers] == [None] * 3
    finally:
        here.stage.close()
        log.close()


@pytest.mark.soak
def test_forged_records_end_no_worker_for_a_minute() -> None:
    until_s, seed = time.monotonic() + SOAK_S, time.time_ns()
    while time.monotonic() < until_s:
        seed += 1
        try:
            live_on(seed)
        except BaseException as error:
            error.add_note(f"repeat it: live_on({seed})")
            raise
