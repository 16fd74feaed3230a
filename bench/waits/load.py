"""The HTTP load: so many connections, each sending its next request when its last one is answered; a process of its own.

Stands before every contender alike. It counts what is answered after the warm-up, and looks at each answer: either it is
the text that was expected, or, for an object that counts, one more than the key's answer before.

    python -m bench.waits.load '{"port": 8080, "path": "/counter/{key}/add", "connections": 32, ...}'
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial

import httptools
import msgspec

KEYS_OF_A_CONNECTION = 10
"""A connection has keys of its own, so that no request waits for another one's key."""
GIVE_UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, and for how long; `expected` None says that the answers of a key count up by one."""

    port: int
    path: str
    connections: int
    seconds: float
    warm_up_s: float
    body: str = ""
    expected: str | None = None
    at_least: int = 2
    """So many answers are waited for also when they take longer than `seconds`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a plan; the moments are of `time.perf_counter()`, which all processes of a machine share."""

    requests: int
    p50_ms: float
    p99_ms: float
    start_s: float
    end_s: float

    @property
    def per_s(self) -> float:
        return self.requests / (self.end_s - self.start_s)


@dataclass(slots=True)
class Load:
    """What the connections have in common: when it counts, what was answered, whether something was wrong."""

    plan: Plan
    over: asyncio.Future[None]
    taken_s: list[float] = field(default_factory=list[float])
    began_s: float = field(default_factory=time.perf_counter)
    start_s: float = 0.0
    end_s: float = 0.0

    def answered(self, asked_s: float, now_s: float) -> bool:
        """Note an answer; whether there is more to ask. The first answer after the warm-up starts the measurement."""
        if self.over.done():
            return False
        if not self.start_s:
            if now_s - self.began_s >= self.plan.warm_up_s:
                self.start_s = now_s
            return True
        self.taken_s.append(now_s - asked_s)
        if now_s - self.start_s < self.plan.seconds or len(self.taken_s) < self.plan.at_least:
            return True
        self.end_s = now_s
        self.over.set_result(None)
        return False

    def wrong(self, message: str) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError(message))


class Connection(asyncio.Protocol):
    """One connection: one request at a time, over the keys of its own."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._keys = [f"c{number}-{key}" for key in range(KEYS_OF_A_CONNECTION)]
        self._requests = [request(load.plan, key) for key in self._keys]
        self._last: list[int | None] = [None] * KEYS_OF_A_CONNECTION
        self._turn = -1
        self._asked_s = 0.0
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        now_s = time.perf_counter()
        self._look()
        if self._load.answered(self._asked_s, now_s):
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.wrong(f"the contender closed a connection: {exc}")

    def _ask(self) -> None:
        self._turn = (self._turn + 1) % KEYS_OF_A_CONNECTION
        self._body = b""
        self._asked_s = time.perf_counter()
        self._transport.write(self._requests[self._turn])

    def _look(self) -> None:
        status, said = self._parser.get_status_code(), self._body.decode(errors="replace")
        if status != 200:
            self._load.wrong(f"{self._load.plan.path} was answered with {status}: {said[:300]}")
        elif self._load.plan.expected is None:
            before, self._last[self._turn] = self._last[self._turn], int(said)
            if before is not None and int(said) != before + 1:
                self._load.wrong(f"{self._keys[self._turn]} counted {before}, then {said}: an update was lost or doubled")
        elif said != self._load.plan.expected:
            self._load.wrong(f"{self._load.plan.path} was answered {said[:300]!r}, not {self._load.plan.expected!r}")


def request(plan: Plan, key: str) -> bytes:
    """The bytes of one request; a handler without an argument gets no body and no type."""
    body = plan.body.encode()
    lines = [f"POST {plan.path.format(key=key)} HTTP/1.1", f"host: 127.0.0.1:{plan.port}", f"content-length: {len(body)}"]
    lines += ["content-type: application/json"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def run(plan: Plan) -> Answered:
    """Open the connections, ask until it is over, and sum up.

    Raises:
        RuntimeError: an answer was wrong, a connection was closed, or it took much longer than planned.
    """
    loop = asyncio.get_running_loop()
    load = Load(plan, loop.create_future())
    opened = [
        await loop.create_connection(partial(Connection, load, number), "127.0.0.1", plan.port)
        for number in range(plan.connections)
    ]
    try:
        await asyncio.wait_for(load.over, plan.warm_up_s + plan.seconds + GIVE_UP_S)
    except TimeoutError:
        raise RuntimeError(f"{plan.path}: {len(load.taken_s)} answers in {plan.seconds + GIVE_UP_S:.0f} s") from None
    finally:
        for transport, _ in opened:
            transport.abort()
    p50_s, p99_s = percentiles_s(load.taken_s)
    return Answered(len(load.taken_s), round(p50_s * 1000, 3), round(p99_s * 1000, 3), load.start_s, load.end_s)


def percentiles_s(taken_s: list[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile: the smallest time that half, or 99 of 100, have not exceeded."""
    ordered = sorted(taken_s)
    return ordered[(len(ordered) - 1) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def main() -> None:
    """Read the plan from the command line, print what came of it as JSON; what went wrong goes to stderr, exit code 1."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    try:
        print(json.dumps(asdict(asyncio.run(run(plan)))))
    except (RuntimeError, OSError, ValueError) as failed:
        sys.exit(f"the load failed: {failed}")


if __name__ == "__main__":
    main()
