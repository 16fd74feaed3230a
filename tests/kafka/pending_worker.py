"""A worker process to be killed: it commits once, then stops in the middle of its second commit and says so.

Stands where a worker stands that dies between sending its offsets and committing.
"""

import sys
import time

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.remote_producer import RemoteProducer
from odradek_runtime.log.port import Output, Partition
from tests.contract.station import Station


def main(servers: str, app: str, topic: str) -> None:
    """Own both shards, commit offset 3, leave a transaction pending, and wait to be killed."""
    station = Station(KafkaLog(servers, transaction_timeout_s=60.0), app, 2).join().own({0, 1})
    commands = Partition(f"{app}.commands", 0)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"committed")], offsets={commands: 3}))

    def hang(_: RemoteProducer) -> None:
        sys.stdout.write("pending\n")
        sys.stdout.flush()
        time.sleep(600)

    setattr(RemoteProducer, "commit", hang)  # noqa: B010  # the moment before the commit, held for ever
    station.member.commit(station.transaction([0], [Output(topic, 0, b"k", b"pending")], offsets={commands: 4}))
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
