"""The client over real HTTP, against a server that notes requests and answers as the ingress of DESIGN does."""

import asyncio
import json
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from odradek import Client, Context, Object, ObjectContext, Service, TerminalError, Workflow, WorkflowContext
from odradek._bad_input import BadInput
from odradek._errors import ComesLater


@dataclass
class Order:
    id: str
    amount: int


customer, stock, flow = Object("customer"), Service("stock"), Workflow("flow")


@customer.handler
async def ordered(ctx: ObjectContext, order: Order) -> Order:
    return order


@stock.handler
async def raw(ctx: Context, body: bytes) -> bytes:
    return body


@stock.handler
async def count(ctx: Context) -> int:
    return 0


@flow.run
async def run(ctx: WorkflowContext, request: str) -> int:
    return 0


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Ingress:
    """Echoes calls, accepts sends, attaches to 42, fails what is called stock/broken."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.release = threading.Event()
        self.url = ""

    async def handle(self, request: Request) -> Response:
        target = request.scope["raw_path"].decode()
        query = request.scope["query_string"].decode()
        body = await request.body()
        self.seen.append(Seen(request.method, f"{target}?{query}" if query else target, dict(request.headers), body))
        headers = {"x-odradek-id": f"inv-{len(self.seen)}"}
        if "broken" in target:
            error = {"code": 409, "message": "no more", "metadata": {"sku": "A1"}}
            return JSONResponse(error, 409, headers)
        if target.endswith("/send"):
            return JSONResponse({"invocationId": f"inv-{len(self.seen)}", "status": "Accepted"}, 202, headers)
        if target.endswith("/attach"):
            return Response(b"42", 200, headers)
        if "teapot" in target:
            return Response("not JSON", 503)
        if "slow" in target:
            await asyncio.to_thread(self.release.wait)
        return Response(body, 200, headers)


@contextmanager
def serve() -> Generator[Ingress]:
    ingress = Ingress()
    app = Starlette(routes=[Route("/{path:path}", ingress.handle, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    ingress.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield ingress
    finally:
        ingress.release.set()
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[Ingress]:
    with serve() as ingress:
        yield ingress


@pytest.fixture(name="ingress")
def _ingress(server: Ingress) -> Ingress:
    server.seen.clear()
    return server


def test_a_call_is_a_post_and_its_reply_the_result(ingress: Ingress) -> None:
    async def main() -> None:
        async with Client(ingress.url) as client:
            call = client.call(ordered, Order("1", 2), key="b/ö b", idempotency_key="i", headers={"h": "v"})
            assert isinstance(call, asyncio.Future)
            assert await call == await call == Order("1", 2)
            assert call.invocation_id == "inv-1"
            assert await client.call(raw, b"\xff") == b"\xff"
            assert await client.call("other/thing", [1], key="..", returns=list[int]) == [1]

    asyncio.run(main())
    first, second, third = ingress.seen
    assert (first.method, first.path, first.body) == ("POST", "/customer/b%2F%C3%B6%20b/ordered", b'{"id":"1","amount":2}')
    assert (first.headers["idempotency-key"], first.headers["h"]) == ("i", "v")
    assert first.headers["content-type"] == "application/json"
    assert (second.path, second.body, second.headers["content-type"]) == ("/stock/raw", b"\xff", "application/octet-stream")
    assert third.path == "/other/%2E%2E/thing"


def test_an_error_of_the_handler_is_raised_with_code_and_metadata(ingress: Ingress) -> None:
    async def main() -> None:
        async with Client(ingress.url) as client:
            call = client.call("stock/broken", returns=int)
            with pytest.raises(TerminalError, match="no more") as raised:
                await call
            assert (raised.value.code, raised.value.metadata) == (409, {"sku": "A1"})
            assert (call.invocation_id, raised.value.invocation_id) == ("inv-1", "inv-1")
            with pytest.raises(TerminalError, match="no more") as raised:
                client.send("stock/broken")
            assert raised.value.invocation_id == "inv-2"
            with pytest.raises(TerminalError, match="not JSON") as raised:
                await client.call("stock/teapot", returns=int)
            assert (raised.value.code, raised.value.invocation_id) == (503, "")

    asyncio.run(main())


def test_a_result_of_another_type_is_an_error(ingress: Ingress) -> None:
    async def main() -> None:
        async with Client(ingress.url) as client:
            with pytest.raises(ValueError, match=r"\$: Expected `int`, got `str`"):
                await client.call("stock/echo", "x", returns=int)

    asyncio.run(main())


def test_send_gives_the_id_and_takes_a_delay(ingress: Ingress) -> None:
    async def main() -> list[str]:
        async with Client(ingress.url) as client:
            return [
                client.send(count),
                client.send(ordered, Order("1", 2), key="k", delay=timedelta(days=30), idempotency_key="i"),
                client.send("stock/count", delay=1.5),
                client.send(count, delay=datetime(2000, 1, 1, tzinfo=UTC)),
            ]

    assert asyncio.run(main()) == ["inv-1", "inv-2", "inv-3", "inv-4"]
    assert [seen.path for seen in ingress.seen] == [
        "/stock/count/send",
        "/customer/k/ordered/send?delay=2592000s",
        "/stock/count/send?delay=1.5s",
        "/stock/count/send?delay=0s",
    ]
    assert ingress.seen[1].headers["idempotency-key"] == "i"


def test_attach_resolve_and_reject(ingress: Ingress) -> None:
    async def main() -> tuple[Any, ...]:
        async with Client(ingress.url) as client:
            results = await client.attach("inv-7", returns=int), await client.attach(run, key="a b")
            with suppress(BadInput):  # what the ingress of this test answers is no Order
                await client.attach(ordered, key="k", idempotency_key="i")
            client.resolve("awk/1", Order("1", 2))
            client.reject("awk2", "no", code=422)
            with pytest.raises(ComesLater):
                client.cancel("inv-7")
            with pytest.raises(TypeError, match="pass returns="):
                client.attach("inv-7")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
            with pytest.raises(TypeError, match="a handler with the key and the idempotency key"):
                client.attach(ordered, key="k")
            return results

    assert asyncio.run(main()) == (42, 42)
    assert [(seen.method, seen.path) for seen in ingress.seen] == [
        ("GET", "/odradek/invocations/inv-7/attach"),
        ("GET", "/odradek/workflows/flow/a%20b/attach"),
        ("GET", "/customer/k/ordered/attach"),
        ("POST", "/odradek/awakeables/awk%2F1/resolve"),
        ("POST", "/odradek/awakeables/awk2/reject"),
    ]
    assert ingress.seen[2].headers["idempotency-key"] == "i"
    assert ingress.seen[3].body == b'{"id":"1","amount":2}'
    assert json.loads(ingress.seen[4].body) == {"message": "no", "code": 422, "metadata": {}}


def test_leaving_gives_up_the_calls_that_wait(ingress: Ingress) -> None:
    async def main() -> None:
        async with Client(ingress.url) as client:
            call = client.call("stock/slow", returns=int)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await call
            assert not call.done()
        assert call.cancelled()

    asyncio.run(main())


def test_an_app_that_is_not_there_is_a_transport_error() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(httpx.ConnectError):
                await client.call(count)
            with pytest.raises(httpx.ConnectError):
                client.send(count)

    asyncio.run(main())


def test_it_is_a_context_manager() -> None:
    client = Client()
    for word in (lambda: client.call(count), lambda: client.send(count)):
        with pytest.raises(RuntimeError, match="async with Client"):
            word()
