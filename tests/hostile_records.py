"""Records as strangers write them: any bytes in every part; an app that looks at them in every way; and what must come of it.

Stands before the first station of a record: whatever it holds, it ends as one result or as one dead letter, and nothing else does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from odradek import App, Context, ObjectContext, State
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Log
from tests.records import committed

JSONS = (b"0", b"17", b'"x"', b"null", b"{", b"[]", b"{}", b"-1e400")
TEXTS = (*JSONS, b"", b"\xff\xfe", b"\x00", b"a\x00b", b"\xed\xa0\x80", b"\xc0\xaf", b"k\n\x1b[2J")
TIMES_MS = (0, 0, 0, 1, -1, -5, -(2**62), 999, 1_700_000_000_000)
HOW = ("blind", "curious", "slow", "typed", "step")
"""Ways to handle a record; each has an input of its own."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One record. Header names are bytes without a zero byte, of any encoding. `timestamp_ms` 0: now."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...]
    timestamp_ms: int


def hostile_records(seed: int, number: int) -> Iterator[Hostile]:
    """The same for the same seed."""
    rng = random.Random(seed)

    def some(most: int) -> bytes | None:
        return rng.choice((None, *TEXTS, rng.randbytes(rng.randint(0, most)), b"%d" % rng.randint(0, 9)))

    for _ in range(number):
        names = [(some(20) or b"").replace(b"\x00", b"") for _ in range(rng.choice((0, 0, 1, 2, 5)))]
        if names and rng.random() < 0.3:
            names.append(rng.choice((names[0], b"odradek", b"odradek-error", b"\xff\xfea")))
        yield Hostile(some(40), some(2_000), tuple((name, some(100)) for name in names), rng.choice(TIMES_MS))


def handling(name: str) -> App:
    """An app with an input for each of `HOW`, `<name>-<how>`; it says in `<name>-seen` which records it has handled."""
    app = App(name, shards=2)
    seen = app.topic(f"{name}-seen", value=str)
    topics = {how: app.topic(f"{name}-{how}", value=bytes) for how in HOW if how != "typed"}
    numbers = app.topic(f"{name}-typed", value=int)
    thing, count = app.object("thing"), State("count", int, default=0)

    def told(ctx: Context) -> str:
        assert ctx.record is not None
        return f"{ctx.record.topic}[{ctx.record.partition}]@{ctx.record.offset}"

    @thing.on(topics["blind"])
    async def blind(ctx: ObjectContext, value: bytes) -> None:
        ctx.set(count, ctx.get(count) + 1)
        ctx.publish(seen, "blind")

    @thing.on(topics["curious"])
    async def curious(ctx: ObjectContext, value: bytes) -> None:
        record = ctx.record
        assert record is not None
        assert all(isinstance(name, str) for name, _ in record.headers)
        assert dict(ctx.headers) is not None
        assert isinstance(record.timestamp_ms, int)
        ctx.publish(seen, told(ctx), headers={"saw": repr(record)})

    @thing.on(topics["slow"])
    async def slow(ctx: ObjectContext, value: bytes) -> None:
        await ctx.sleep(0.001)
        ctx.publish(seen, told(ctx))

    @thing.on(numbers)
    async def typed(ctx: ObjectContext, value: int) -> None:
        ctx.publish(seen, told(ctx))

    @app.on(topics["step"])
    async def stepping(ctx: Context, value: bytes) -> None:
        await ctx.run(len, value)
        ctx.publish(seen, told(ctx))

    return app


def ended(log: Log, name: str) -> Counter[str]:
    """Each place of a record, as often as it was handled or is a dead letter; of `blind` the number that it handled."""
    found: Counter[str] = Counter()
    for topic in (f"{name}-seen", f"{name}.dead-letters"):
        for message in committed(log, topic):
            told = {name: (value or b"").decode(errors="replace") for name, value in reversed(headers_of(message))}
            if topic.endswith("-seen"):
                found[(message.value() or b"").decode()] += 1
            else:
                found["{odradek-topic}[{odradek-partition}]@{odradek-offset}".format_map(told)] += 1
    return found


def everything(log: Log, name: str, number: int) -> bool:
    """Each of so many records an input has ended once. Raises AssertionError when one has more than once."""
    found = ended(log, name)
    blind = found.pop("blind", 0) + sum(each for place, each in found.items() if place.startswith(f"{name}-blind["))
    twice = {place: each for place, each in found.items() if each > 1}
    assert not twice
    rest = [place for place in found if not place.startswith(f"{name}-blind[")]
    assert blind <= number
    assert len(rest) <= (len(HOW) - 1) * number
    return blind == number and len(rest) == (len(HOW) - 1) * number
