"""Futures: awaiting never cancels, hashing is by number, lost errors are silent."""

import asyncio
import gc
from typing import Any

import pytest

from odradek import Awakeable, Call, Future


def future(seq: int = 1) -> Future[str]:
    return Future(loop=asyncio.get_running_loop(), seq=seq)


def test_a_cancelled_await_leaves_it_running_and_it_may_be_awaited_again() -> None:
    async def main() -> str:
        waited = future()

        async def wait() -> str:
            return await waited

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await waited
        assert not waited.done()
        asyncio.get_running_loop().call_soon(waited.set_result, "done")
        assert await waited == "done"
        return await waited

    assert asyncio.run(main()) == "done"


def test_two_tasks_may_wait_and_wait_and_gather_take_it() -> None:
    async def main() -> tuple[Any, ...]:
        first, second = future(1), future(2)

        async def wait() -> str:
            return await first

        tasks = [asyncio.create_task(wait()) for _ in range(2)]
        loop = asyncio.get_running_loop()
        loop.call_soon(first.set_result, "a")
        done, pending = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({first}, {second})
        loop.call_soon(second.set_result, "b")
        return (*await asyncio.gather(*tasks), *await asyncio.gather(first, second))

    assert asyncio.run(main()) == ("a", "a", "a", "b")


def test_cancel_stops_the_waiting_here() -> None:
    async def main() -> None:
        waited = future()
        asyncio.get_running_loop().call_soon(waited.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waited

    asyncio.run(main())


def test_errors_are_raised_where_awaited_and_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        waited = future()
        waited.set_exception(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await waited
        lost = future()
        lost.set_exception(ValueError("lost"))
        del lost
        gc.collect()

    asyncio.run(main())
    assert caplog.records == []


def test_they_hash_by_number_so_that_sets_have_one_order() -> None:
    async def main() -> None:
        futures = [future(seq) for seq in (3, 1, 2)]
        assert [hash(f) for f in futures] == [3, 1, 2]
        assert [f.seq for f in set(futures)] == [f.seq for f in {*reversed(futures)}] == [1, 2, 3]
        assert future(1) != future(1)

    asyncio.run(main())


def test_a_durable_loop_is_given_the_future_itself() -> None:
    class DurableLoop(asyncio.SelectorEventLoop):
        direct = True

    loop = DurableLoop()
    waited: Future[str] = Future(loop=loop, seq=1)

    async def handler() -> str:
        return await waited

    coroutine = handler()
    assert coroutine.send(None) is waited
    waited.set_result("x")
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == "x"
    loop.close()


def test_calls_and_awakeables_have_ids() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert Call[int](loop=loop, seq=1, invocation_id="i").invocation_id == "i"
        unnamed = Call[int](loop=loop, seq=1)
        with pytest.raises(RuntimeError, match="await the call first"):
            _ = unnamed.invocation_id
        unnamed.named("j")
        assert unnamed.invocation_id == "j"
        assert Awakeable[int](loop=loop, seq=1, id="a").id == "a"

    asyncio.run(main())
