"""What an operator should read: librdkafka's errors and log lines, in plain words and not too often.

Stands beside every client of a member; what passes becomes a `Trouble` event, or a line of Python logging while nobody listens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from confluent_kafka import KafkaError

from odradek_runtime.log.kafka.errors import explain, kind_of, refusal_of
from odradek_runtime.log.port import Refusal, Trouble

logger = logging.getLogger("odradek.kafka")

REPEAT_S = 5.0
"""The same kind of trouble is told at most this often."""

_QUIET = frozenset({KafkaError._MAX_POLL_EXCEEDED, KafkaError.GROUP_AUTHORIZATION_FAILED})
"""Errors of clients that are in no group which do not concern them."""


class TroubleReporter:
    """Tells each kind of trouble once in a while. Thread-safe: a race tells one twice at worst."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._told_at: dict[str, float] = {}
        self.sink: Callable[[Trouble], None] | None = None

    def error(self, error: KafkaError, resource: str = "", operation: str = "") -> None:
        """An error callback of librdkafka, from a client that is in no group."""
        if error.code() not in _QUIET:
            self.group_error(error, resource, operation)

    def group_error(self, error: KafkaError, resource: str = "", operation: str = "") -> None:
        """An error callback of librdkafka, from any client. A refusal by configuration is never fatal: it may be mended."""
        kind = kind_of(error)
        refusal = refusal_of(error, "a client was told", resource=resource, operation=operation)
        fatal = error.fatal() and refusal is None
        if refusal is not None and kind in ("authentication", "tls"):
            refusal = refusal._replace(message=explain(error, self._servers))
        if refusal is not None:
            self.tell(f"{refusal.resource} {refusal.operation}", refusal.message, refusal=refusal)
        else:
            self.tell(kind if kind != "other" else error.name(), explain(error, self._servers), fatal=fatal)

    def tell(self, kind: str, message: str, *, fatal: bool = False, refusal: Refusal | None = None) -> None:
        """Post it, unless trouble of this kind was posted a moment ago."""
        now = time.monotonic()
        if not fatal and now - self._told_at.get(kind, -REPEAT_S) < REPEAT_S:
            return
        self._told_at[kind] = now
        if self.sink is not None:
            self.sink(Trouble(message, fatal, refusal))  # the engine logs it
        else:
            logger.warning("%s", message)


@contextmanager
def vital(trouble: TroubleReporter, thread: str) -> Generator[None]:
    """Round the whole of a thread that a member cannot do without: its death is told, never silent."""
    try:
        yield
    except Exception as error:
        trouble.tell(thread, f"the {thread} thread of the log has died of {error!r}; restart this worker", fatal=True)
        raise


class LibraryLog:
    """Takes librdkafka's log lines instead of its stderr; give it as a client's `logger`.

    Lines of level info and above go on to Python logging at debug level: what matters of them comes as an error, too.
    """

    def log(self, level: int, _format: str, facility: str, client: str, line: str) -> None:
        """Called by confluent_kafka, in the thread that polls the client."""
        if level > logging.DEBUG:
            logger.debug("%s [%s] %s", facility, client, line)
