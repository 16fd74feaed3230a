"""An app with an invocation in every state, and commands that mean it harm: valid ones with fields that are not, or not theirs.

`Open` is the app on a stage; `hostile` gives strategies of commands for its topic. What honest work makes is told apart by its
number: each honest invocation publishes its own, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from odradek import App, Context, ObjectContext, RetryPolicy, step
from odradek_runtime.core.records.formats import COMMAND, Command, Header
from odradek_runtime.core.records.request import Failure, Reply
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.routing import derived_id, fresh_id, id_hash, key_hash, shard_of
from tests.invariants.stage import Stage
from tests.records import committed

SHARDS = 2
HOUR_MS = 3_600_000
KEY = "a"
"""Of the object that honest work is done at."""
ENDED = next(key for key in ("ended", "ended1", "ended2") if shard_of(key.encode(), SHARDS) == shard_of(KEY.encode(), SHARDS))
"""Another of the same shard, where everything has ended."""
BESIDE = next(key for key in "bcdefgh" if shard_of(key.encode(), SHARDS) == shard_of(KEY.encode(), SHARDS))
"""Another of the same shard, where nothing is."""


def app() -> App:
    """Adds at `tally`; `outer` calls `tally/held`, which waits for a step."""
    made = App("open", shards=SHARDS)
    out, numbers = made.topic("open-out", value=int), made.topic("open-in", value=int)
    tally = made.object("tally")

    @step
    async def double(n: int) -> int:
        return 2 * n

    @tally.handler
    async def add(ctx: ObjectContext, n: int) -> int:
        ctx.publish(out, n)
        return 2 * n

    @tally.handler
    async def held(ctx: ObjectContext, n: int) -> int:
        ctx.publish(out, n)
        return await double(n)

    @tally.on(numbers)
    async def seen(ctx: ObjectContext, n: int) -> None:
        ctx.publish(out, n)

    @made.handler
    async def outer(ctx: Context, n: int) -> int:
        return 1 + await ctx.call(held, n, key=KEY)

    @made.handler(retry=RetryPolicy(initial=3_600.0, max_delay=3_600.0))
    async def fails(_: Context, n: int) -> int:
        raise OSError(n)

    @made.handler(retry=RetryPolicy(max_attempts=1), on_exhausted="pause")
    async def stuck(_: Context, n: int) -> int:
        raise OSError(n)

    return made


class Open:
    """The app with work under way: what honest clients wait for, and what it must come to."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage.open()
        self.ends = False
        self.ids: dict[str, str] = {}
        """By state."""
        self.replies: dict[str, list[Reply]] = {}
        self._publisher = stage.log.publisher("hostile")
        self._written = 0
        self._ask("ended", "tally/add", 1, key=ENDED)
        self._until_replied("ended")
        self._ask("calling", "open/outer", 10)
        stage.until(lambda: stage.executor.submitted)
        self.ids["stepping"] = stage.executor.submitted[0].id
        self._ask("inboxed", "tally/add", 20, key=KEY)
        self._ask("backing_off", "open/fails", 30)
        self._ask("paused", "open/stuck", 40)
        self.ids["scheduled"] = fresh_id(KEY.encode(), _entropy(50))
        self.at_ms = int(stage.now_ms) + HOUR_MS
        self.write(self.invoke(self.ids["scheduled"], "tally/add", 50, at_ms=self.at_ms))
        self.ids["absent"] = fresh_id(KEY.encode(), _entropy(0))
        self.settle()
        states = [(stage.machine.stored(self._shard(id_), id_), state) for state, id_ in self.ids.items()]
        found = {state: stored.status for stored, state in states if stored is not None}
        assert found == {
            "ended": "completed", "calling": "running", "stepping": "running", "inboxed": "inboxed", "backing_off": "backing_off",
            "paused": "paused", "scheduled": "scheduled",
        }  # fmt: skip

    def reopen(self) -> None:
        """Another engine on the same log; whoever still waits asks it."""
        before = self.stage
        before.close()
        self.stage = Stage(before.app, before.log, before.directory).open()
        self.stage.now_ms, self.stage.steady_ms = before.now_ms, before.steady_ms
        for state, replies in self.replies.items():
            if not any(reply.status == "completed" for reply in replies):
                self.replies[state] = self.stage.attach(self.ids[state])

    def run_on(self, turns: int) -> None:
        """So many turns of the engine, in which commits succeed and steps end."""
        for _ in range(turns):
            if self.stage.member.held is not None:
                self.stage.member.let_through()
            self._steps_end()
            self.stage.turn()

    def pass_epochs(self) -> None:
        """One of each shard is committed."""
        here = {shard_of(key.encode(), SHARDS): key for key in ("p", "q", "r", "s", "t")}
        assert len(here) == SHARDS
        for key in here.values():
            replies = self.stage.ask("tally/add", -9, key=key)
            self._until(lambda replies=replies: replies)

    def _shard(self, id_: str) -> Any:
        return self.stage.machine.shards[id_hash(id_) % SHARDS]

    def _ask(self, state: str, target: str, number: int, *, key: str = "") -> None:
        self.replies[state] = self.stage.ask(target, number, key=key, entropy=_entropy(number))
        self.ids[state] = self.stage.asked[-1]

    def _until_replied(self, state: str) -> None:
        self._until(lambda: self.replies[state])

    def _until(self, condition: Callable[[], object]) -> None:
        """The steps that are started meanwhile end, except of what is under way before the enemy comes."""

        def ended() -> object:
            if self.ends:
                self._steps_end()
            return condition()

        self.stage.until(ended)

    def _steps_end(self) -> None:
        self.ends = True
        submitted = self.stage.executor.submitted
        while submitted:
            self.stage.step_ends(submitted.pop(), 20)

    def invoke(self, id_: str, target: str, number: int, **more: Any) -> Command:
        return Command(kind="invoke", id=id_, target=target, key=KEY.encode(), payload=msgspec.json.encode(number), **more)

    def write(self, command: Command) -> None:
        """To where it belongs, as an app would."""
        self.throw(COMMAND.encode(command), id_hash(command.id) % SHARDS)

    def throw(self, value: bytes | None, partition: int) -> None:
        """To the commands, whatever it is."""
        self._written += 1
        self._publisher.publish([Output("open.commands", partition, None, value)], self._written)

    def settle(self) -> None:
        """Until all that was written has been read, and what it set going is committed."""
        log, stage = self.stage.log, self.stage
        ends = {p: log.offsets(p)[1] for p in (Partition("open.commands", n) for n in range(SHARDS))}
        self._until(lambda: all(stage.position(p) >= end for p, end in ends.items()) and stage.quiet)

    def judge(self) -> None:
        """Honest work goes to its end: everything once, with the right result, and others are still served."""
        stage = self.stage
        assert stage.machine.stored(self._shard(self.ids["inboxed"]), self.ids["inboxed"]) is not None
        self._steps_end()
        for state, result in (("calling", b"21"), ("inboxed", b"40")):
            self._until_replied(state)
            assert [(r.status, r.value) for r in self.replies[state]] == [("completed", result)], state
        for state in ("backing_off", "paused"):
            assert self.replies[state] == [], state
        self.record(60)
        stage.later(self.at_ms - stage.now_ms + 1)
        self._ask("after", "tally/add", 70, key="after")
        self._until_replied("after")
        self.settle()
        done = Counter(int(value) for value in stage.values("open-out") if int(value) > 0)
        assert done == Counter([1, 10, 20, 50, 60, 70])

    def record(self, number: int) -> None:
        """One that is forwarded or not, as its key has it."""
        self.stage.publish("open-in", (KEY, number), partition=1 - shard_of(KEY.encode(), SHARDS))
        self._until(lambda: str(number) in self.stage.values("open-out"))

    def letters(self) -> list[dict[str, str]]:
        log = self.stage.log
        letters = committed(log, "open.dead-letters")
        return [{name: (text or b"").decode(errors="replace") for name, text in m.headers() or ()} for m in letters]


def _entropy(number: int) -> bytes:
    return b"honest" + number.to_bytes(6, "big")


STATES = ("ended", "calling", "stepping", "inboxed", "backing_off", "paused", "scheduled", "absent")
GARBAGE_IDS = (
    "", "inv_", "inv_" + "\u017f" * 26, "INV_" + "a" * 26, "inv_" + "A" * 26, "inv_" + "a" * 27, "inv_" + "1" * 26, "x" * 9_000,
    "../../etc", "inv_aaaaaaaaaaaaaaaaaaaaaaaaa\n", "\0",
)  # fmt: skip
INT32 = (-(2**31), -2, -1, 0, 1, 7, 2**31 - 1)
INT64 = (-(2**63), -1, 0, 1, 253_402_300_800_000, 10**15, 2**63 - 1)
NAMES = ("", "open", "gone", "gone.away", "a b", "a/b", "..", "\0", "x" * 300, "\u00e9", "-x", "open\n")
KEYS = (None, b"", b"a", b"b", b"\0/%", b"\xff" * 3_000)
PAYLOADS = (None, b"", b"-1", b"{", b"\xff", b"-" + b"1" * 200_000)
FAILURES = (None, *(Failure(code, "no", {"a": "b"}) for code in (-1, 0, 200, 404, 599, 600, 2**31 - 1)))
TARGETS = (
    "tally/add", "tally/held", "tally/seen", "open/outer", "open/fails", "tally/gone", "gone/away", "", "tally", "a/b/c", "/",
    "a b/c\n",
)  # fmt: skip
KINDS = (
    "invoke", "complete", "forward", "barrier", "cancel", "kill", "pause", "resume", "restart", "purge", "signal", "promise",
    "awakeable", "attach", "unknown",
)  # fmt: skip
HEADERS: tuple[list[Header], ...] = ([], [Header("", None)], [Header("a\0\n", b"\xff")] * 3, [Header("h", b"v" * 9_000)] * 9)
POOLS: dict[str, tuple[Any, ...]] = {
    "kind": KINDS, "target": TARGETS, "key": KEYS, "payload": PAYLOADS, "caller_app": NAMES, "name": NAMES, "headers": HEADERS,
    "ref": INT32, "partition": INT32, "offset": INT64, "timestamp_ms": INT64, "at_ms": INT64,
    "idempotent": (False, True), "failure": FAILURES, "topic": ("open-in", "open-out", "open.commands", "", "a b", "\0", "gone"),
    "topic_id": ("", "x", "x" * 5_000),
}  # fmt: skip
"""What each field may be made to be; ids come from the states besides."""


def valid(draw: st.DrawFn, ids: dict[str, str]) -> Command:
    """One that nothing is wrong with."""
    kind = draw(st.sampled_from(("invoke", "invoke", "complete", "complete", "awakeable", "forward", "barrier")))
    if kind == "barrier":
        return Command(kind, id=draw(st.sampled_from(("1.1", "1.2", "", "99.1", "1"))))
    if kind == "forward":
        return Command(kind, target="tally/seen", key=b"a", payload=b"-2", topic="open-in", partition=0, offset=0, timestamp_ms=1)
    id_ = ids[draw(st.sampled_from(STATES))]
    if kind in ("complete", "awakeable"):
        return Command(kind, id=id_, ref=draw(st.sampled_from((0, 1))), payload=b"-3")
    new = derived_id(key_hash(b"a"), draw(st.integers(0, 2**30)))
    id_ = draw(st.sampled_from((new, id_)))
    target, key = draw(st.sampled_from(TARGETS[:5])), draw(st.sampled_from((b"a", b"b", None)))
    return Command(kind, id=id_, target=target, key=key, payload=b"-4")


@st.composite
def hostile(draw: st.DrawFn, ids: dict[str, str]) -> tuple[bytes | None, int]:
    """The bytes of a command, and the partition that it is written to: mostly where it belongs."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.none() | st.binary(max_size=60)), draw(st.integers(0, SHARDS - 1))
    command = valid(draw, ids)
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from((*POOLS, "id", "id", "caller_id", "caller_id")))
        pool = POOLS.get(field, (*(ids[state] for state in STATES), *GARBAGE_IDS))
        setattr(command, field, draw(st.sampled_from(pool)))
    if forges(command, ids):
        command.ref += 1
    raw = COMMAND.encode(command)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([draw(st.integers(0, 255))]) * draw(st.integers(0, 2)) + raw[at + 1 :]
        if (found := _decoded(raw)) is not None and forges(found, ids):
            raw = b""
    try:
        home = id_hash(command.id) % SHARDS if command.kind != "forward" else shard_of(command.key or b"", SHARDS)
    except ValueError:
        home = 0
    return raw, draw(st.sampled_from((home, home, home, 1 - home)))


def _decoded(raw: bytes) -> Command | None:
    try:
        return COMMAND.decode(raw)
    except Exception:  # noqa: BLE001  (what a decoder may raise is another test's)
        return None


def forges(command: Command, ids: dict[str, str]) -> bool:
    """Whether it is just what the caller waits for: nobody could tell it from the truth. Rights to the topic keep it out."""
    return command.kind == "complete" and command.id == ids["calling"] and command.ref == 0


def open_stage(log: EmbeddedLog) -> Open:
    return Open(Stage(app(), log))
