"""The topology of Kafka's EosTestClient as an odradek app, whose name is the group that the verifier asks for.

data -> echo, min, sum; with EOS_COMPLEX=1 also data -> repartition -> max, cnt. Keys are text, values big-endian int32 or int64.
"""

import os
import struct
import sys

from odradek import App, ObjectContext, State

COMPLEX = os.environ.get("EOS_COMPLEX") == "1"
LINE_EVERY = 100
INT, LONG = struct.Struct(">i"), struct.Struct(">q")

app = App("EosTest")
data, echo, minimum, total = app.topic("data"), app.topic("echo"), app.topic("min"), app.topic("sum")
repartition, maximum, count = app.topic("repartition"), app.topic("max"), app.topic("cnt")

smallest, added = State("min", int, default=2**31 - 1), State("sum", int, default=0)
largest, counted = State("max", int, default=-(2**31)), State("cnt", int, default=0)

_seen: dict[tuple[str, int], int] = {}


def _told(ctx: ObjectContext) -> None:
    """A line for every hundred records of a partition, as it executes and so before its commit: that is where kills aim at."""
    record = ctx.record
    assert record is not None
    place = (record.topic, record.partition)
    seen = _seen[place] = _seen.get(place, 0) + 1
    if seen % LINE_EVERY == 0:
        sys.stdout.write(f"processed {seen} records from topic={record.topic}\n")
        sys.stdout.flush()


@app.object("of-data").on(data)
async def from_data(ctx: ObjectContext, value: bytes) -> None:
    """Copy it, and keep the smallest value and the sum of its key."""
    number = INT.unpack(value)[0]
    ctx.publish(echo, value, key=ctx.key)
    _told(ctx)
    least = min(ctx.get(smallest), number)
    ctx.set(smallest, least)
    ctx.publish(minimum, INT.pack(least), key=ctx.key)
    so_far = ctx.get(added) + number
    ctx.set(added, so_far)
    ctx.publish(total, LONG.pack(so_far), key=ctx.key)
    if COMPLEX:
        ctx.publish(repartition, value, key=ctx.key)


if COMPLEX:

    @app.object("of-repartition").on(repartition)
    async def from_repartition(ctx: ObjectContext, value: bytes) -> None:
        """Keep the largest value of its key, and how many there were."""
        number = INT.unpack(value)[0]
        _told(ctx)
        most = max(ctx.get(largest), number)
        ctx.set(largest, most)
        ctx.publish(maximum, INT.pack(most), key=ctx.key)
        times = ctx.get(counted) + 1
        ctx.set(counted, times)
        ctx.publish(count, LONG.pack(times), key=ctx.key)
