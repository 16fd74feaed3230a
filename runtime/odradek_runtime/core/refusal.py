"""What a handler is told that uses something which does not outlive a crash: the word, where it stands, and the way out.

Beside the loop (`handler_loop`), which is asked for such things, and the runner, which sees what a coroutine waits for. Both
read the word off the stack: whatever a library would say of a loop that is none, nobody could act on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

import odradek
from odradek import Context, ObjectContext, SharedContext, WorkflowContext
from odradek._calls import Calls
from odradek._errors import Misuse

ENGINE = __name__.partition(".")[0]
THREAD = "ctx.run(function, *arguments) runs it in a thread, as a step"
STEP = "put it into a step, whose result is recorded: await a function decorated with @step, or ctx.run(function, *arguments)"
WORDS = {THREAD: ("to_thread", "run_in_executor", "run_sync")}
REMEDIES = {word: way_out for way_out, words in WORDS.items() for word in words}

_CLASSES = {"Calls": Calls, **{name: getattr(odradek, name) for name in odradek.__all__}}
_HOLDERS = {
    "SharedContext": "which handlers of an object or a workflow get",
    "ObjectContext": "which an object's exclusive handlers get (@object.handler and .on; a shared one only reads)",
    "WorkflowContext": "which the run of a workflow gets",
}
_CALLED_AMISS = re.compile(r"(?P<owner>\w+)\.(?P<word>\w+)\(\) (got (an unexpected|multiple|some)|missing \d+ required|takes )")
"""Python's own words for a call that does not fit the function."""


def refusal(frames: list[FrameType], otherwise: str) -> str:
    """The message for what the innermost of these frames asked for; `otherwise` names it if no library stands between.

    `frames`: from the handler's own inwards.
    """
    return _message(*_where(frames, otherwise))


def _where(frames: list[FrameType], otherwise: str) -> tuple[str, str]:
    """The word, and its place."""
    if not frames:
        return otherwise, ""
    home = _package(frames[0])
    own = max(index for index, frame in enumerate(frames) if _package(frame) == home)
    place = f" ({frames[own].f_code.co_filename}:{frames[own].f_lineno}, in {frames[own].f_code.co_name})"
    asked = [frame for frame in frames[own + 1 :] if _package(frame) != "contextlib"]  # `with` and `async with` go through it
    return _word(asked[0]) if asked else otherwise, place


def calling(frame: FrameType | None) -> list[FrameType]:
    """The frames from the handler's inwards to this one, which it has called."""
    found: list[FrameType] = []
    while frame is not None:
        if _package(frame) != ENGINE:
            found.append(frame)
        elif found:
            break
        frame = frame.f_back
    if found and found[-1].f_code.co_qualname == "Handle._run":  # asyncio's, which has given a task its turn
        found.pop()
    return found[::-1]


def of_task(handler: Any, frames: list[FrameType]) -> list[FrameType]:
    """What a task has called, with what the handler waits in before it where the task is of a library: that says where."""
    own = awaiting(handler)
    if not own or (frames and _package(frames[0]) == _package(own[0])):
        return frames
    return [frame for frame in own if _package(frame) != "asyncio"] + frames  # it waits for the task by that


def awaiting(coroutine: Any) -> list[FrameType]:
    """The frames from the handler's inwards to what its coroutine waits in."""
    return [frame for frame in _chain(coroutine) if _package(frame) != ENGINE]


def endless(frames: list[FrameType]) -> str:
    """The message for one that waits for what nothing that it has begun can bring."""
    word, place = _where(frames, "await")
    return f"{word} waits for ever{place}: nothing that its invocation has begun can end it. What comes from outside: {STEP}"


def of_another_loop(error: BaseException) -> str:
    """The message for an error by which asyncio says that a loop runs here already; "" for any other."""
    frames = [step.tb_frame for step in _raised_through(error)]
    if not isinstance(error, RuntimeError) or not frames:
        return ""
    if frames[-1].f_globals.get("__name__") not in ("asyncio.runners", "asyncio.base_events"):
        return ""
    return refusal([frame for frame in frames if _package(frame) != ENGINE], "asyncio.run")


def called_amiss(error: BaseException) -> Misuse | None:
    """For an error by which Python says that odradek has no such word, or that it takes no such argument: no retry mends either."""
    if isinstance(error, AttributeError) and isinstance(error.obj, Context):
        return _no_such_word(error, error.obj)
    said = _CALLED_AMISS.match(str(error)) if type(error) is TypeError else None
    if said is None or not hasattr(_CLASSES.get(said["owner"]), said["word"]):
        return None
    steps = list(_raised_through(error))
    if not steps or _package(steps[-1].tb_frame) in (ENGINE, odradek.__name__):
        return None
    code = steps[-1].tb_frame.f_code
    owner = said["owner"].replace("Calls", "Context")
    word = owner if said["word"] == "__init__" else f"{owner}.{said['word']}"
    return Misuse(f"{error} ({code.co_filename}:{steps[-1].tb_lineno}, in {code.co_name}): help(odradek.{word}) says what it takes")


def _no_such_word(error: AttributeError, context: Context) -> Misuse:
    """A word that this context does not have, and which one has it."""
    own, word = type(context).__name__, error.name or ""
    kinds = [kind.__name__ for kind in (SharedContext, ObjectContext, WorkflowContext) if hasattr(kind, word)]
    has = f"that is a word of {kinds[0]}, {_HOLDERS[kinds[0]]}" if kinds else f"help(odradek.{own}) says what it has"
    return Misuse(f"{own} has no {word!r}: {has}")


def _raised_through(error: BaseException) -> Iterator[TracebackType]:
    """Where an error passed, from who caught it inwards to who raised it."""
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next


def _chain(awaitable: Any) -> Iterator[FrameType]:
    while awaitable is not None:
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                awaitable = getattr(awaitable, inner)
                break
        else:
            return


def _message(word: str, place: str) -> str:
    name = word.rpartition(".")[2]
    way_out = REMEDIES.get(name, STEP)
    more = "" if way_out is STEP else f"; anything else that waits: {STEP}"
    return f"{word} does not work in a handler{place}, since it would not outlive a crash: {way_out}{more}"


def _word(frame: FrameType) -> str:
    """The name under which the function of a frame is known: asyncio.sleep, httpx.AsyncClient.get."""
    names = [name for name in frame.f_code.co_qualname.split(".") if name != "<locals>" and not name.startswith("__")]
    return ".".join((_package(frame), *names))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
