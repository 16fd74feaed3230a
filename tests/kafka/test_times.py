"""Timestamps of any int64 pass through: read, forwarded, kept over a wait, dead-lettered, shown."""

from pathlib import Path

import pytest

from odradek import App, ObjectContext, TerminalError
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output
from tests.cli.conftest import odradek
from tests.kafka.raw import committed_values, eventually
from tests.kafka.running import publish, running

TIMES = [1, -5, 253_402_300_800_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000, 2**63 - 1]
"""Milliseconds since 1970, and what people take for them: before 1970, the year 10000, microseconds, nanoseconds, anything."""
ANY_TIME = {"message.timestamp.after.max.ms": str(2**63 - 1)}


def test_records_of_any_time_are_processed(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are forwarded (the key decides), every fifth ends as a dead letter, and all wait once."""
    inputs, outputs = f"{topic_prefix}-in", f"{topic_prefix}-out"
    log.create_topic(inputs, 1, ANY_TIME)
    log.create_topic(outputs, 1, {})
    app = App(topic_prefix, shards=2)
    times, out, keeper = app.topic(inputs, value=int), app.topic(outputs, value=int), app.object("keeper")

    @keeper.on(times)
    async def keep(ctx: ObjectContext, ms: int) -> None:
        assert ctx.record.offset >= 0
        await ctx.sleep(0.001)
        if ctx.key.endswith("-4"):
            raise TerminalError("every fifth")
        ctx.publish(out, ctx.record.timestamp_ms, key=str(ms))

    records = [Output(inputs, 0, b"%d-%d" % (ms, n), b"%d" % ms, None, ms) for ms in TIMES for n in range(5)]
    with running(app, log, kafka, tmp_path):
        publish(log, topic_prefix, *records)
        eventually(lambda: len(committed_values(kafka, outputs)) == 4 * len(TIMES))

    assert sorted(map(int, filter(None, committed_values(kafka, outputs)))) == sorted(TIMES * 4)
    letters = [value for number in range(2) for value in committed_values(kafka, f"{topic_prefix}.dead-letters", number)]
    assert sorted(map(int, filter(None, letters))) == sorted(TIMES)

    monkeypatch.chdir(tmp_path)
    shown = odradek("consume", inputs, "--meta", "--format", "table", "--bootstrap-servers", kafka)
    assert shown.returncode == 0, shown.stderr
    assert all(f" {ms} ms " in shown.stdout for ms in TIMES[2:]), shown.stdout
    assert "1969-12-31 23:59:59.995" in shown.stdout
    assert len(shown.stdout.splitlines()) == 1 + len(records)
