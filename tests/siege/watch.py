"""What is looked at throughout a siege: probes, memory, processes, and honest clients whose work must count exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue

import httpx

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.parts import place_of
from odradek_runtime.node.log_opening import open_log
from tests.hostile_records import ended
from tests.records import committed

AGAIN = {429, 500, 502, 503, 504}
"""Answers after which an honest client repeats its request under the same idempotency key."""


@dataclass(frozen=True, slots=True)
class Probed:
    """How long the answers took, in order, and what was none."""

    took_ms: list[float]
    failed: list[str]

    def share_ms(self, share: float) -> float:
        """0.99: all but a hundredth took no longer."""
        return self.took_ms[min(int(len(self.took_ms) * share), len(self.took_ms) - 1)] if self.took_ms else float("inf")


def probe(admin_url: str, until_s: float, nice: int) -> Probed:
    """GET /health twenty times a second, as a kubelet does it: from a process that does nothing else, over a connection each."""
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    context = httpx.create_ssl_context()
    took_ms, failed = list[float](), list[str]()
    while time.time() < until_s:
        time.sleep(0.05)
        with httpx.Client(verify=context, timeout=10) as client:
            begun_s = time.perf_counter()
            try:
                status = client.get(f"{admin_url}/health").status_code
            except httpx.HTTPError as error:
                failed.append(repr(error))
            else:
                took_ms.append((time.perf_counter() - begun_s) * 1000)
                if status != 200:
                    failed.append(str(status))
    return Probed(sorted(took_ms), failed)


def control(told: Queue[str], nice: int) -> None:
    """Answer every request at once, from a process that does nothing else: what the machine itself takes while it is busy."""
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            told.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await server.serve_forever()

    asyncio.run(serve())


def ended_once(kafka: str, name: str, patience_s: float) -> list[str]:
    """What is wrong with the strangers' records: each input record is handled once, or is one dead letter."""
    inputs, until_s = (f"{name}-records", f"{name}-numbers"), time.monotonic() + patience_s
    with closing(open_log(replace(Settings(), bootstrap_servers=kafka))) as log:
        while True:
            written = {place_of(message) for topic in inputs for message in committed(log, topic)}
            found = {place: times for place, times in ended(log, name).items() if place.startswith(inputs)}
            missing = written - found.keys()
            if not missing or time.monotonic() > until_s:
                break
            time.sleep(1)
    wrong = [f"{place} was handled {times} times" for place, times in found.items() if times > 1]
    if missing:
        wrong.append(f"{len(missing)} of {len(written)} records have not ended, such as {min(missing)}")
    return wrong if written else ["no record was written"]


class Honest(threading.Thread):
    """Adds numbers at keys of its own, each until it is told that it was added; `added` is what the totals must be."""

    def __init__(self, urls: list[str], number: int) -> None:
        super().__init__(daemon=True)
        self._urls = urls
        self._chance = random.Random(number)
        self._number = number
        self.added: Counter[str] = Counter()
        self.repeated = 0
        self.wrong: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self.ending.is_set():
                key, n = f"honest-{self._number}-{self._chance.randrange(20)}", self._chance.randrange(1, 10)
                self._add(client, key, n)
                time.sleep(0.02)

    def _add(self, client: httpx.Client, key: str, n: int) -> None:
        token = uuid.uuid4().hex
        while True:
            try:
                answer = client.post(
                    f"{self._chance.choice(self._urls)}/tally/{key}/add", json=n, headers={"idempotency-key": token}
                )
            except httpx.HTTPError:
                pass
            else:
                if answer.status_code == 200:
                    self.added[key] += n
                    return
                if answer.status_code not in AGAIN:
                    self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
                    return
            self.repeated += 1
            time.sleep(0.2)

    def check(self, client: httpx.Client, url: str) -> None:
        """The totals of its keys."""
        for key, total in self.added.items():
            found = client.post(f"{url}/tally/{key}/total").json()
            if found != total:
                self.wrong.append(f"{key}: {found} instead of {total}")
