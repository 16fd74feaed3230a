"""A worker that does as the test says: it answers each request by a rule, in another thread as the real one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from odradek_runtime.core.metrics import Metrics, Restore, Snapshot, Standing
from odradek_runtime.core.records.request import Answer, Attach, Invoke, Reply, Request, unheard
from odradek_runtime.routing import id_hash
from odradek_runtime.worker.upkeep.upkeep import Upkeep

Rule = Callable[[Request], Reply | None]


def echo(request: Request) -> Reply:
    """Completed with the payload; accepted when nobody waits."""
    if isinstance(request, Attach):
        return Reply("not_found", request.invocation_id)
    return Reply("completed" if request.wait else "accepted", request.invocation_id, request.payload or b"")


class ScriptedWorker:
    """Implements `ingress.port.Answering`. `rule` gives the reply, or None to keep the request waiting (see `release`)."""

    def __init__(self, shards: int = 4, owned: Iterable[int] | None = None, rule: Rule = echo) -> None:
        self.arrived = threading.Condition()
        self.reset(shards, owned, rule)

    def reset(self, shards: int = 4, owned: Iterable[int] | None = None, rule: Rule = echo) -> None:
        """As new: for tests that share one."""
        self.metrics = Metrics()
        self.upkeep: Upkeep | None = None
        self.shards = shards
        self.owned = set(range(shards) if owned is None else owned)
        self.rule: Rule = rule
        self.asked: list[Request] = []
        self.waiting: list[tuple[Request, Answer]] = []
        self.unaccepted: list[Callable[[], None]] = []
        self.restoring: dict[int, Restore] = {}
        self.ready = True
        self.failed: Exception | None = None
        self.log_trouble = ""
        self.stuck: dict[int, str] = {}
        self.rows: dict[int, dict[bytes, bytes]] = {}

    def owns(self, shard: int) -> bool:
        return shard in self.owned

    def replay_rows(self) -> dict[int, dict[bytes, bytes]]:
        return {shard: dict(self.rows.get(shard, {})) for shard in self.owned}

    def trouble_of(self, shard: int) -> str:
        return self.log_trouble or self.stuck.get(shard, "")

    def ask(self, request: Request, answer: Answer, accepted: Callable[[], None] = unheard) -> None:
        threading.Thread(target=self._answer, args=(request, answer, accepted), daemon=True).start()

    def snapshot(self) -> Snapshot:
        return {
            "shards_owned": sorted(self.owned),
            "restoring": self.restoring,
            "lag_records": {("orders", 1): 7},
            "lag_seconds": {("orders", 1): 12.5},
            "standing": Standing({("customer/add", "paused"): (3, 60.5)}, {"sleep": 4}, {"sleep": 1}, 2.5, {"billing": (2, 30.5)}),
            "in_flight": 3,
            "coroutines_cached": 2,
            "inputs_paused": False,
            "held_bytes": {"suspended": 77},
            "queues": {"steps": 5},
        }

    def release(self, rule: Rule) -> None:
        """Answer what waits."""
        with self.arrived:
            waiting, self.waiting = self.waiting, []
        for request, answer in waiting:
            reply = rule(request)
            assert reply is not None
            answer(reply)

    def accept(self) -> None:
        """What waits is durable."""
        with self.arrived:
            unaccepted, self.unaccepted = self.unaccepted, []
        for accepted in unaccepted:
            accepted()

    def wait_for(self, count: int) -> None:
        """Block until so many requests have been asked."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.asked) >= count, timeout=10), f"{len(self.asked)} of {count}"

    @property
    def invoked(self) -> Invoke:
        """The last request, which started something."""
        last = self.asked[-1]
        assert isinstance(last, Invoke)
        return last

    def _answer(self, request: Request, answer: Answer, accepted: Callable[[], None]) -> None:
        owned = id_hash(request.invocation_id) % self.shards in self.owned
        reply = self.rule(request) if owned else Reply("moved", request.invocation_id)
        with self.arrived:
            self.asked.append(request)
            if reply is None:
                self.waiting.append((request, answer))
                self.unaccepted.append(accepted)
            self.arrived.notify_all()
        if reply is not None:
            answer(reply)
