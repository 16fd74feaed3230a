"""contextvars: a task has a copy of those of who made it; an invocation has its own."""

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

from odradek import Context
from tests.engine.asyncio.handlers import after, outcome
from tests.engine.harness import Rig

who: ContextVar[str] = ContextVar("who", default="nobody")


def test_a_task_has_a_copy(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        who.set("handler")

        async def one(name: str) -> list[str]:
            before = who.get()
            who.set(name)
            await after(1)
            return [before, who.get()]

        told = await asyncio.gather(one("a"), one("b"))
        return [told, who.get()]

    assert outcome(rig, body) == [[["handler", "a"], ["handler", "b"]], "handler"]


def test_a_context_of_ones_own(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        mine = copy_context()
        mine.run(who.set, "mine")

        async def one() -> list[Any]:
            return [who.get(), await after(1, 2)]

        return await asyncio.create_task(one(), context=mine)

    assert outcome(rig, body) == ["mine", 2]
