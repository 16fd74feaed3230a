"""The contenders by name. Kafka Streams has no requests and no steps: it takes part where records pass through."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.contenders import CONTENDERS as THROUGHPUT_CONTENDERS
from bench.contenders import Run, running
from bench.waits.dbos import Dbos
from bench.waits.odradek import Odradek
from bench.waits.restate import Restate
from bench.waits.site import Contender, Site, Unavailable, Work


class Streams:
    """`bench/peers/streams`, one thread, the record cache on."""

    name = "streams"
    title = "Kafka Streams 4.1.0"
    works = frozenset({Work.PACED})
    counted = True
    own_log = False

    def build(self) -> None:
        """Build it with Maven.

        Raises:
            Unavailable: Maven is missing or failed.
        """
        try:
            THROUGHPUT_CONTENDERS["streams-1"].build()
        except RuntimeError as failed:
            raise Unavailable(str(failed)) from failed

    @contextmanager
    def serving(self, run: Run, work: Work) -> Iterator[Site]:
        """Start it; it says nowhere that it is ready: its first output does."""
        with running(THROUGHPUT_CONTENDERS["streams-1"], run) as process:
            yield Site(0, [process])


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Odradek(kafka=True), Odradek(kafka=True, idempotent=True), Odradek(kafka=False), Restate(), Dbos(), Streams(),
    )
}
OURS = ("odradek", "odradek-idempotent", "embedded")
PEERS = ("restate", "dbos", "streams")
