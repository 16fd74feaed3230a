"""Workflows in generated programs: who draws them, who plays them, and what must come of them.

A workflow has one task for each key, whoever starts it: tasks, and records. Some wait for a word; whoever starts one, or waits
beside it, has it told the word, which is the same whoever tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from odradek import Name, SharedContext, WorkflowContext

if TYPE_CHECKING:
    from odradek import App, Topic

    from .program import Entry, Op, Program, Task

FLOW, STARTS, TELLS = "wf", "in-wf", "in-word"
WORD = Name("word", str)
WAYS = ("call", "call", "send", "attach", "attach", "wait", "none")


def key_of(number: int) -> str:
    """Of a workflow."""
    return f"w{number}"


def word_of(number: int) -> str:
    """What it is told."""
    return f"word {number}"


def drawn(rng: Random, number: int, task: Task) -> Task:
    """The task of a workflow: one that does not fail, and may wait for its word."""
    ops = [op for op in task["ops"] if op["op"] not in ("terminate", "poison", "fail", "own")]
    for _ in range(rng.randint(0, 2)):
        word: Op = {"op": "promise", "flow": number, "later": rng.random() < 0.5}
        ops.insert(rng.randint(0, len(ops)), word)
    return {**task, "ops": ops}


def operation(rng: Random, count: int) -> Op:
    """One that has to do with a workflow."""
    return {"flow": rng.randrange(count), "way": rng.choice(WAYS), "later": rng.random() < 0.4, "told": rng.choice((0, 1, 300))}


def used(program: Program) -> set[int]:
    """Which of the workflows anybody starts."""
    return {op["flow"] for op in _operations(program) if op["way"] in ("call", "send", "attach")} | {
        entry.task["flow"] for entry in program.entries if entry.topic == STARTS
    }


def _operations(program: Program) -> Iterator[Op]:
    waiting = [entry.task for entry in program.entries] + [task for _, _, task in program.pool]
    while waiting:
        for op in waiting.pop()["ops"]:
            if op["op"] in ("terminate", "poison"):
                break
            if op["op"] == "flow":
                yield op
            waiting += op.get("tasks", [op["task"]] if "task" in op else [])


def declare(app: App, program: Program, play: Any) -> None:
    """The workflow of the app; `play(ctx, task)` carries a task out."""
    flow = app.workflow(FLOW)
    starts: Topic[str, dict[str, Any]] = app.topic(STARTS, value=dict[str, Any])
    tells: Topic[str, str] = app.topic(TELLS, value=str)

    @flow.on(starts)
    @flow.run
    async def run(ctx: WorkflowContext, task: dict[str, Any]) -> list[Any]:
        told: list[Any] = await play(ctx, {**program.flows[task["flow"]], "at": FLOW})
        return told

    @flow.on(tells)
    @flow.shared
    async def tell(ctx: SharedContext, word: str) -> None:
        ctx.promise(WORD).resolve(word)
        ctx.promise(WORD).resolve("too late")

    @flow.shared
    async def wait(ctx: SharedContext) -> str:
        peeked = ctx.promise(WORD).peek()
        word = await ctx.promise(WORD)
        return word if peeked in (None, word) else f"peeked {peeked}"


def entry_of(rng: Random, program: Program, at_ms: float, make: type[Entry]) -> list[Entry]:
    """Records that start one, and tell it its word."""
    number = rng.randrange(len(program.flows))
    start = {"id": "", "ops": [], "flow": number}
    tell = make(at_ms + rng.choice((-50.0, 0.0, 900.0)), f"{FLOW}/tell", key_of(number), {"id": "", "ops": []}, TELLS,
                word_of(number).encode())  # fmt: skip
    return [make(at_ms, f"{FLOW}/run", key_of(number), start, STARTS), tell]
