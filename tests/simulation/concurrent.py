"""What a generated task does at once, by plain asyncio: several waits, a race of them, a deadline.

Beside the performance of a task, which gives it the steps. In what order its waits end is drawn like a random number: whoever
sees a part of the task's draws, now or after a crash, must see the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Concurrent:
    """One operation's parts; `seen` is the task's list of draws, `run` runs a step of that name, which fails so often."""

    def __init__(self, name: str, parts: list[dict[str, Any]], seen: list[str], run: Callable[[str, int], Awaitable[str]]) -> None:
        self._name = name
        self._parts = parts
        self._seen = seen
        self._run = run

    async def _part(self, number: int) -> str:
        part, name = self._parts[number], f"{self._name}.{number}"
        if "ms" in part:
            await asyncio.sleep(part["ms"] / 1000)
            return name
        return await self._run(name, part["fails"])

    async def _noted(self, number: int) -> None:
        self._seen.append(await self._part(number))

    async def together(self, how: str) -> None:
        """All of them; each is drawn when it ends."""
        every = range(len(self._parts))
        match how:
            case "gather":
                await asyncio.gather(*map(self._noted, every))
            case "group":
                at_once = asyncio.Semaphore(2)

                async def bounded(number: int) -> None:
                    async with at_once:
                        await self._noted(number)

                async with asyncio.TaskGroup() as group:
                    for number in every:
                        group.create_task(bounded(number))
            case "completed":
                for each in asyncio.as_completed([self._part(number) for number in every]):
                    self._seen.append(await each)
            case _:
                await self._by_queue(every)

    async def _by_queue(self, every: range) -> None:
        queue = asyncio.Queue[str](maxsize=1)

        async def produce(number: int) -> None:
            await queue.put(await self._part(number))

        producers = [asyncio.create_task(produce(number)) for number in every]
        for _ in every:
            self._seen.append(await queue.get())
        await asyncio.wait(producers)

    async def race(self) -> None:
        """The first of them, or those that have ended together; the others are cancelled."""
        tasks = [asyncio.create_task(self._part(number)) for number in range(len(self._parts))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        self._seen.append(" ".join(task.result() for task in done))

    async def deadline(self, within_s: float) -> None:
        """All of them in time, or not, and when that was known."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                ended = await asyncio.gather(*map(self._part, range(len(self._parts))))
        except TimeoutError:
            ended = ["too late"]
        self._seen.append(f"{self._name} {' '.join(ended)} at {loop.time()}")
