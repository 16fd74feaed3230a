"""An `Operations` that keeps what it was asked: the engine of these tests. Steps and calls stay open until a test ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from odradek import Call, Future
from odradek._errors import Refused
from odradek._port import Headers, Origin, StepBody


class Notes:
    """Takes notes of every operation; state is a dict."""

    def __init__(self, key: bytes = b"bob", *, origin: Origin | None = None) -> None:
        self.id = "inv-1"
        self.key = key
        self.headers: Mapping[str, str] = {"x": "y"}
        self.origin = origin
        self.replaying = False
        self.state: dict[str, bytes] = {}
        self.published: list[tuple[Any, ...]] = []
        self.steps: list[StepBody] = []
        self.sleeps: list[float] = []
        self.calls: list[tuple[Any, ...]] = []
        self.sends: list[tuple[Any, ...]] = []
        self.futures: list[Future[Any]] = []

    def refuse(self, message: str) -> NoReturn:
        raise Refused(message)

    def read(self, name: str) -> bytes | None:
        return self.state.get(name)

    def write(self, name: str, value: bytes | None) -> None:
        if value is None:
            self.state.pop(name, None)
        else:
            self.state[name] = value

    def clear(self) -> None:
        self.state.clear()

    def names(self) -> Sequence[str]:
        return sorted(self.state)

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> None:
        self.published.append((topic, key, value, headers, partition, timestamp_ms))

    def run(self, body: StepBody) -> Future[Any]:
        self.steps.append(body)
        return self._future()

    def sleep(self, delay_s: float) -> Future[None]:
        self.sleeps.append(delay_s)
        return self._future()

    def call(
        self,
        target: str,
        key: bytes | None,
        payload: bytes,
        decode: Callable[[bytes], Any],
        idempotency_key: str | None,
        headers: Mapping[str, str],
    ) -> Call[Any]:
        self.calls.append((target, key, payload, decode, idempotency_key, dict(headers)))
        return Call(loop=asyncio.get_running_loop(), seq=len(self.calls), invocation_id="inv-2")

    def send(
        self,
        target: str,
        key: bytes | None,
        payload: bytes,
        delay_s: float | None,
        at_ms: int | None,
        idempotency_key: str | None,
        headers: Mapping[str, str],
    ) -> str:
        self.sends.append((target, key, payload, delay_s, at_ms, idempotency_key, dict(headers)))
        return "inv-3"

    def now_ms(self) -> float:
        return 1_700_000_000_123.0

    def seed(self) -> int:
        return 42

    def uuid_bytes(self) -> bytes:
        return bytes(range(16))

    def _future(self) -> Future[Any]:
        future: Future[Any] = Future(loop=asyncio.get_running_loop(), seq=len(self.futures))
        self.futures.append(future)
        return future
