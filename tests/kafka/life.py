"""One app on the shared broker, and its runs one after another: what befalls its topics meanwhile is for the tests."""

from pathlib import Path

from odradek import App, ObjectContext, State
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.worker.worker import Worker
from tests.contract.station import values
from tests.kafka.raw import eventually

RECORDS = 40


class Life:
    """One app on the shared broker, and its runs one after another."""

    def __init__(self, servers: str, log: KafkaLog, prefix: str, folder: Path) -> None:
        self.servers, self.log, self.prefix, self.folder = servers, log, prefix, folder
        self.entries, self.counts = f"{prefix}-entries", f"{prefix}-counts"
        log.create_topic(self.entries, 2, {})
        log.create_topic(self.counts, 1, {})
        self._runs: list[tuple[Worker, KafkaLog]] = []

    def app(self) -> App:
        app = App(self.prefix)
        entries, counts = app.topic(self.entries, value=int), app.topic(self.counts, value=int)
        count, account = State("count", int, default=0), app.object("account")

        @account.on(entries)
        async def entered(ctx: ObjectContext, value: int) -> None:
            ctx.set(count, ctx.get(count) + 1)
            ctx.publish(counts, ctx.get(count), key=ctx.key)

        return app

    def begin(self) -> Worker:
        log = KafkaLog(self.servers, transaction_timeout_s=4.0)  # a commit to a topic that is gone is waited for
        folder = self.folder / str(len(self._runs))
        worker = Worker(self.app(), log, Settings(bootstrap_servers=self.servers, data_dir=folder, topics_watch_s=0.2))
        self._runs.append((worker, log))
        worker.start()
        return worker

    def feed(self, start: int = 0) -> None:
        publisher = self.log.publisher(f"{self.prefix}-feed-{start}")
        numbers = range(start, start + RECORDS)
        publisher.publish([Output(self.entries, None, b"k%d" % (n % 5), b"%d" % n) for n in numbers], RECORDS)
        publisher.close()

    def stop(self) -> None:
        while self._runs:
            worker, log = self._runs.pop()
            worker.stop()
            log.close()

    def counted(self) -> int:
        return len(values(self.log, Partition(self.counts, 0)))

    def run_once(self) -> None:
        self.begin()
        self.feed()
        eventually(lambda: self.counted() == RECORDS)
        self.stop()
