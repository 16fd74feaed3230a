"""Steps: journaled inside a handler, ordinary functions elsewhere."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from odradek import Context, RetryPolicy, TerminalError, current, idempotency_key, step
from odradek._current import CURRENT, STEP
from odradek._port import StepBody

from .notes import Notes


@dataclass
class Receipt:
    id: str


@step(retry=RetryPolicy(max_attempts=3), timeout=5)
async def charge(amount: int, *, currency: str = "EUR") -> Receipt:
    return Receipt(f"{amount} {currency}")


@step
async def outer() -> Receipt:
    return await charge(1)


async def hintless(*args: Any):  # type: ignore[no-untyped-def]  # the return hint is optional, and here it is not there
    return list(args)


chosen: Callable[..., Coroutine[Any, Any, Any]] = step(name="chosen")(hintless)


def plain(x: int) -> int:
    return x + 1


def inside(ops: Notes, start: Callable[[Context], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine as a handler whose steps and calls are answered at once, by running them."""

    async def main() -> Any:
        context = Context(ops, "test/handler")
        CURRENT.set(context)
        task = asyncio.create_task(start(context))
        answered = 0
        while not task.done():
            await asyncio.sleep(0)
            for body, future in list(zip(ops.steps, ops.futures, strict=True))[answered:]:
                answered += 1
                try:
                    future.set_result(body.decode(body.encode(await execute(body))))
                except ValueError as error:
                    future.set_exception(error)
        return await task

    return asyncio.run(main())


async def execute(body: StepBody) -> Any:
    """As an executor does: a body runs where no handler is current."""

    async def run() -> Any:
        CURRENT.set(None)
        value = body.run()
        return await value if body.is_async else value

    return await asyncio.create_task(run())


def test_a_step_is_an_ordinary_function_elsewhere() -> None:
    assert asyncio.run(charge(5)) == Receipt("5 EUR")
    assert charge.__name__ == "charge"
    assert inspect.iscoroutinefunction(charge)


def test_a_step_awaited_in_a_handler_is_journaled_with_its_policy() -> None:
    ops = Notes()
    assert inside(ops, lambda _: charge(5, currency="USD")) == Receipt("5 USD")
    [body] = ops.steps
    assert (body.name, body.is_async, body.timeout_s) == ("charge", True, 5.0)
    assert body.retry == RetryPolicy(max_attempts=3)


def test_a_step_inside_a_step_is_part_of_it() -> None:
    ops = Notes()
    assert inside(ops, lambda _: outer()) == Receipt("1 EUR")
    assert [body.name for body in ops.steps] == ["outer"]


def test_a_body_does_not_depend_on_the_executor_to_be_out_of_its_handler() -> None:
    async def main() -> Receipt:
        CURRENT.set(Context(Notes(), "test/handler"))
        STEP.set(Running("key-1"))
        return await outer()

    assert asyncio.run(main()) == Receipt("1 EUR")


def test_results_go_through_the_serde_on_the_first_run_too() -> None:
    ops = Notes()
    assert inside(ops, lambda _: chosen({"a": 1.0})) == [{"a": 1.0}]
    assert ops.steps[0].name == "chosen"


def test_a_result_that_would_come_back_as_another_is_refused() -> None:
    with pytest.raises(TerminalError, match=r"step chosen: .*recorded: \$\[0\]: .* got tuple: declare its type"):
        inside(Notes(), lambda _: chosen((1, 2)))


def test_run_takes_functions_of_every_kind() -> None:
    async def coroutine(x: int) -> str:
        return str(x)

    class Callable_:  # noqa: N801  (what it is)
        async def __call__(self, x: int) -> int:
            return x

    def gives_awaitable(x: int) -> Awaitable[int]:
        async def later() -> int:
            return x * 2

        return later()

    async def handler(ctx: Context) -> list[Any]:
        return [
            await ctx.run(plain, 1),
            await ctx.run(coroutine, 2),
            await ctx.run(Callable_(), 3),
            await ctx.run(gives_awaitable, 4),
            await ctx.run(functools.partial(plain, 5), name="five"),
            await ctx.run(Receipt, "made"),
            await ctx.run(lambda: {"a": 1}, name="lambda", returns=dict[str, int]),
            await ctx.run(charge, 7, retry=RetryPolicy(max_attempts=1), timeout=1),
        ]

    ops = Notes()
    assert inside(ops, handler) == [2, "2", 3, 8, 6, Receipt("made"), {"a": 1}, Receipt("7 EUR")]
    assert [body.is_async for body in ops.steps] == [False, True, True, True, False, False, False, True]
    assert [body.name.rpartition(".")[2] for body in ops.steps] == [
        "plain", "coroutine", "Callable_", "gives_awaitable", "five", "Receipt", "lambda", "charge",
    ]  # fmt: skip
    assert (ops.steps[-1].retry, ops.steps[-1].timeout_s) == (RetryPolicy(max_attempts=1), 1.0)


def test_run_keeps_what_the_step_says_unless_told_otherwise() -> None:
    ops = Notes()
    inside(ops, lambda ctx: _await(ctx.run(charge, 1)))
    assert (ops.steps[0].name, ops.steps[0].timeout_s, ops.steps[0].retry) == ("charge", 5.0, RetryPolicy(max_attempts=3))


async def _await(value: Awaitable[Any]) -> Any:
    return await value


def test_a_result_of_another_type_is_an_error_that_names_the_field() -> None:
    with pytest.raises(TerminalError, match=r"step n: .*recorded: \$: expected int, got str"):
        inside(Notes(), lambda ctx: _await(ctx.run(lambda: "x", name="n", returns=int)))


def test_a_function_is_handed_over_and_not_called() -> None:
    words = r"ctx.run takes a function and its arguments, ctx.run\(function, \*arguments\), not "
    coroutine = hintless(1)
    with pytest.raises(TerminalError, match=words + r"what hintless\(…\) gives"):
        Context(Notes(), "a/b").run(coroutine)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    with pytest.raises(TerminalError, match=words + "3"):
        Context(Notes(), "a/b").run(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(TypeError, match="pass name="):
        Context(Notes(), "a/b").run(lambda: 1)
    with pytest.raises(TypeError, match="pass name="):
        Context(Notes(), "a/b").run(functools.partial(lambda: 1))


def test_steps_are_async() -> None:
    with pytest.raises(TypeError, match=r"a step must be `async def`; run a sync function by ctx\.run"):
        step(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]


def test_a_step_whose_type_has_no_serde_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"@step .*opaque: no serde for Opaque"):

        @step
        async def opaque() -> Opaque:
            return Opaque()  # pyright: ignore[reportUnusedFunction]


class Opaque:
    pass


@dataclass
class Running:
    """A step whose body runs."""

    key: str


def test_the_idempotency_key_is_the_steps() -> None:
    with pytest.raises(RuntimeError, match="no step is running here; call it in a @step function"):
        idempotency_key()
    token = STEP.set(Running("key-1"))
    assert idempotency_key() == "key-1"
    STEP.reset(token)


def test_current_is_the_running_handlers_context() -> None:
    from odradek import ObjectContext

    with pytest.raises(RuntimeError, match="no handler is running here"):
        current()
    token = CURRENT.set(context := Context(Notes(), "a/b"))
    assert current() is current(Context) is context
    in_body = STEP.set(Running("key-1"))
    with pytest.raises(RuntimeError, match="no handler is running here"):
        current()
    STEP.reset(in_body)
    with pytest.raises(RuntimeError, match=r"current\(ObjectContext\): the running handler has a Context"):
        current(ObjectContext)
    CURRENT.reset(token)
