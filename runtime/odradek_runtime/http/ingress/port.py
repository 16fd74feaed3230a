"""What HTTP asks of the worker below it. Tests stand in for it; `worker.Worker` is the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from odradek_runtime.core.metrics import Metrics, Snapshot
    from odradek_runtime.core.records.request import Answer, Request
    from odradek_runtime.worker.upkeep.upkeep import Upkeep


class Answering(Protocol):
    """A worker as HTTP sees it: it answers requests, and tells how it stands."""

    metrics: Metrics
    upkeep: Upkeep | None
    """What operators may ask for; None until the worker has started."""

    @property
    def shards(self) -> int:
        """N of the app; 0 until the worker has started."""
        ...

    def owns(self, shard: int) -> bool:
        """Whether this worker owns the shard now."""
        ...

    def ask(self, request: Request, answer: Answer, accepted: Callable[[], None]) -> None:
        """Post a request from any thread; `answer` is called once, later, in the engine's thread.

        `accepted` is called before it, in that thread, when the invocation is durable and has not ended yet.
        """
        ...

    @property
    def ready(self) -> bool:
        """True when every owned shard is restored."""
        ...

    @property
    def failed(self) -> Exception | None:
        """What the engine died of."""
        ...

    @property
    def log_trouble(self) -> str:
        """Why the log cannot be used now; empty while it answers."""
        ...

    def trouble_of(self, shard: int) -> str:
        """Why the log, or one shard of this worker's, cannot be used now; empty while it can, or soon will."""
        ...

    def replay_rows(self) -> dict[int, dict[bytes, bytes]]:
        """Shard -> what its journal says of replays, of every shard that can be read here."""
        ...

    def snapshot(self) -> Snapshot:
        """What it holds at this moment."""
        ...


Entropy = Callable[[int], bytes]
"""`os.urandom`, or its deterministic stand-in."""
