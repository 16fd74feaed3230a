"""Everybody who waits here is told to go, twice in a row: as the log stops answering, and as the worker leaves."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from odradek_runtime.core.records.request import Attach
from odradek_runtime.http.ingress.bridge import Bridge
from odradek_runtime.http.ingress.dispatch import Dispatcher, end_at
from odradek_runtime.http.ingress.errors import HttpError
from odradek_runtime.routing import fresh_id
from tests.ingress.scripted import ScriptedWorker


def test_those_whose_time_is_over_already_are_told_once() -> None:
    async def leave_while_they_go() -> None:
        loop = asyncio.get_running_loop()
        worker = ScriptedWorker(rule=lambda request: None)
        nobody = cast("Any", None)
        dispatcher = Dispatcher(worker, nobody, Bridge(worker, loop), nobody, url="http://here", waiting_limit=10)
        asking = asyncio.create_task(dispatcher.ask(Attach(fresh_id(None, bytes(12)), wait=True)))
        await asyncio.sleep(0.01)
        for limit in dispatcher._limits:
            end_at(limit, loop.time())
        await asyncio.sleep(0)  # its time is over, and it has not run since then
        await dispatcher.drain(0.0)
        with pytest.raises(HttpError, match="leaving"):
            await asking

    asyncio.run(leave_while_they_go())
