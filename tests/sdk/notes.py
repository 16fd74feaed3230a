"""An `Operations` that keeps what it was asked: the engine of these tests. Steps and calls stay open until a test ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from odradek import Call, Future
from odradek._errors import Refused
from odradek._port import Asked, AttachTo, AwakeableOf, CallOf, Headers, Origin, ResolveOf, SendOf, Sleep, StepBody


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
        self.others: list[Asked[Any]] = []
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

    def begin(self, asked: Asked[Any]) -> Any:
        match asked:
            case StepBody():
                self.steps.append(asked)
                return self._future()
            case Sleep():
                self.sleeps.append(asked.delay_s)
                return self._future()
            case CallOf():
                self.calls.append(
                    (asked.target, asked.key, asked.payload, asked.decode, asked.idempotency_key, dict(asked.headers))
                )
                return Call(loop=asyncio.get_running_loop(), seq=len(self.calls), invocation_id="inv-2")
            case SendOf():
                once = (asked.delay_s, asked.at_ms, asked.idempotency_key, dict(asked.headers))
                self.sends.append((asked.target, asked.key, asked.payload, *once))
                return "inv-3"
            case AttachTo() | AwakeableOf() | ResolveOf():
                self.others.append(asked)
                return None
            case _:
                raise AssertionError(f"these notes do not know {asked}")

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
