"""CPython's own tests of locks, queues, timeouts, task groups and wait_for, each run in a handler, on the durable loop.

Each test method that runs on the loop it finds (`IsolatedAsyncioTestCase`) is the body of an invocation.

| do not apply | because |
|---|---|
| `test_tasks`, `test_futures` | they make loops of their own, with scripts of times; the tasks here are CPython's own C tasks |
| those in `DO_NOT_APPLY` | said there |
| those in `NOT_AT_A_REPLAY`, with a replay at every wait | said there |
"""

import importlib
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from odradek import App, Context
from tests.engine.harness import Rig

MODULES = ("test_locks", "test_queues", "test_timeouts", "test_taskgroups", "test_waitfor", "test_pep492")
DO_NOT_APPLY = {
    "test_nested_timeouts": "two timers of one time are two completions: what the first one cancels, cancels the second",
    "test_coro_closed_when_tg_closed": "it runs a loop of its own within the one that runs (from Python 3.13 on)",
}
"""By the end of a test's name, class and method: why it does not apply."""


NOT_AT_A_REPLAY = {
    "AsyncioWaitForTest.test_asyncio_wait_for_cancelled": "its task reads the machine's clock, which goes on between replays",
    "AsyncioWaitForTest.test_asyncio_wait_for_timeout": "its task reads the machine's clock, which goes on between replays",
}


def _cases() -> Iterator[str]:
    for name in MODULES:
        try:
            module = importlib.import_module(f"test.test_asyncio.{name}")
        except ImportError:  # a Python without its tests, or one that has no such file yet
            continue
        for class_name, found in vars(module).items():
            if isinstance(found, type) and issubclass(found, unittest.IsolatedAsyncioTestCase):
                for method in unittest.defaultTestLoader.getTestCaseNames(found):
                    yield f"{name}.{class_name}.{method}"


async def _run(name: str) -> str:
    """Run one; gives what went wrong, or nothing."""
    module, class_name, method = name.split(".")
    case = getattr(importlib.import_module(f"test.test_asyncio.{module}"), class_name)(method)
    try:
        case.setUp()
        await case.asyncSetUp()
        given: Any = getattr(case, method)()
        if given is not None:
            await given
        await case.asyncTearDown()
        case.tearDown()
    except unittest.SkipTest:
        return ""
    except Exception:  # noqa: BLE001  (whatever it is, it is shown)
        return traceback.format_exc()
    finally:
        while case._cleanups:
            function, arguments, options = case._cleanups.pop()
            function(*arguments, **options)
    return ""


@pytest.mark.parametrize("name", list(_cases()))
def test_of_cpython(rig: Rig, name: str) -> None:
    excused = DO_NOT_APPLY if rig.settings.coroutine_cache else {**DO_NOT_APPLY, **NOT_AT_A_REPLAY}
    why = next((why for end, why in excused.items() if name.endswith(end)), "")
    if why:
        pytest.skip(why)
    app = App("cpython", shards=1)

    @app.handler
    async def go(ctx: Context) -> str:
        return await _run(name)

    rig.start(app)
    reply = rig.ask("cpython/go").reply()
    assert reply.failure is None, reply.failure
    assert reply.value == b'""', (reply.value or b"").decode().replace("\\n", "\n")
