"""A real worker under a flood of large requests, steps and records: its memory stays within what the setting gives it."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import odradek
from tests.cli.workers import Serving, until
from tests.processes import resident_bytes

MIB = 1024 * 1024
MEMORY_BYTES = 128 * MIB
HELD = """
from odradek import App, Context, RetryPolicy

app = App("held", shards=4)
held = app.service("svc")
inputs = app.topic("inputs", value=str)


@held.handler
async def nap(ctx: Context, body: bytes) -> int:
    await ctx.sleep(2.0)
    return len(body)


@held.handler
async def made(ctx: Context, size: int) -> int:
    async def make() -> bytes:
        return bytes(size)

    return len(await ctx.run(make))


@held.on(inputs)
async def read(ctx: Context, text: str) -> None:
    await ctx.sleep(2.0)
"""


def flood(url: str, path: str, body: bytes, requests: int) -> Counter[int]:
    """So many at once, and how they ended."""
    headers = {"content-type": "application/octet-stream" if path.startswith("nap") else "application/json"}
    with httpx.Client(base_url=f"{url}/svc", headers=headers, timeout=60) as client, ThreadPoolExecutor(60) as clients:
        return Counter(clients.map(lambda _: client.post(path, content=body).status_code, range(requests)))


@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_memory_stays_within_the_setting(log: str, folder: Path, request: pytest.FixtureRequest) -> None:
    on = ["-b", request.getfixturevalue("kafka"), "--create-topics"] if log == "kafka" else []
    name = f"held-{uuid.uuid4().hex[:8]}"
    topic = f"{name}-inputs"
    (folder / "held.py").write_text(HELD.replace('App("held"', f'App("{name}"').replace('"inputs"', f'"{topic}"'))
    (folder / "records.jsonl").write_text((json.dumps("x" * 500_000) + "\n") * 100)
    data = folder / ".odradek" / "worker-0" if log == "kafka" else folder / ".odradek"
    with Serving("run", "held:app", *on, data_dir=data, env={"ODRADEK_MEMORY_BYTES": str(MEMORY_BYTES)}) as serving:
        worker = serving.worker()
        pid, url = worker["pid"], worker["url"]
        flood(url, "nap", b"x", 10)
        flood(url, "made", b"900000", 20)
        base = resident_bytes(pid, "VmRSS")
        for _ in range(2):
            assert set(flood(url, "nap", b"x" * 900_000, 100)) == {200, 429}, "some wait, the others are told at once"
            assert set(flood(url, "nap/send", b"x" * 900_000, 100)) <= {202, 429}
            assert set(flood(url, "made", b"900000", 100)) == {200}
        published = odradek("publish", topic, "records.jsonl", *on[:2])
        assert published.returncode == 0, published.stdout + published.stderr
        assert resident_bytes(pid, "VmHWM") < base + MEMORY_BYTES * 5 // 4
        until(lambda: resident_bytes(pid, "VmRSS") < base + MEMORY_BYTES, "memory that is given back")
