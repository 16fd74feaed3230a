"""Start and stop a Kafka from a shell: `python -m tests.broker start|stop|jars`.

Stands outside every record's journey: a broker that stays, for demos, benches and the curious.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.broker.cluster import BENCH_JVM_OPTIONS, JVM_OPTIONS, KafkaCluster
from tests.broker.jars import PROJECT_ROOT, KafkaJars

DEFAULT_DIRECTORY = PROJECT_ROOT / ".cache" / "broker"


def main() -> None:
    """Carry out one command of the shell; the bootstrap address is all that `start` prints to standard output."""
    options = _parser().parse_args()
    record = Path(options.dir) / "cluster.json"
    if options.command == "jars":
        print(KafkaJars.ensure().directory)
    elif options.command == "stop":
        _stop(record)
    else:
        _start(record, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.broker", description="a Kafka on this machine, without Docker"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start it and print its bootstrap servers; a running one is left alone")
    start.add_argument("--brokers", type=int, default=1, help="how many (default 1)")
    start.add_argument("--bench", action="store_true", help="with a large heap and the optimising compiler")
    start.add_argument("--property", action="append", default=[], metavar="NAME=VALUE", help="of server.properties")
    stop = commands.add_parser("stop", help="shut it down; its data stays in the folder")
    jars = commands.add_parser("jars", help="only fetch the jars")
    for command in (start, stop, jars):
        command.add_argument("--dir", default=str(DEFAULT_DIRECTORY), help="its folder (default .cache/broker)")
    return parser


def _start(record: Path, options: argparse.Namespace) -> None:
    ports: list[int] = []
    if record.exists():
        known = json.loads(record.read_text())
        if known["pids"] and all(_is_broker(pid) for pid in known["pids"]):
            print(known["bootstrap_servers"])
            return
        _stop(record)
        ports = [int(server.rpartition(":")[2]) for server in known["bootstrap_servers"].split(",")]
    cluster = KafkaCluster(
        record.parent.resolve(),
        brokers=options.brokers,
        properties=dict(setting.split("=", 1) for setting in options.property),
        jvm_options=BENCH_JVM_OPTIONS if options.bench else JVM_OPTIONS,
        outlives_parent=True,
        ports=ports,
    )
    began = time.monotonic()
    cluster.start()
    record.write_text(json.dumps({"bootstrap_servers": cluster.bootstrap_servers, "pids": list(cluster.pids.values())}))
    print(f"up in {time.monotonic() - began:.1f} s, logs under {record.parent}", file=sys.stderr)
    print(cluster.bootstrap_servers)


def _stop(record: Path) -> None:
    """Shut down the brokers that the record names; those that take longer than ten seconds are killed.

    The record stays, for the next start to take the same ports: what was told where Kafka is finds it again.
    """
    if not record.exists():
        return
    known = json.loads(record.read_text())
    pids = [pid for pid in known["pids"] if _is_broker(pid)]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(_is_broker(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in filter(_is_broker, pids):
        os.kill(pid, signal.SIGKILL)
    record.write_text(json.dumps({**known, "pids": []}))


def _is_broker(pid: int) -> bool:
    # A pid in a file may belong to another process by now: only one that runs Kafka's main class is ours to end. The class is at
    # the end of a line that is longer than the terminal which ps may have heard of.
    shown = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return "kafka.Kafka" in shown.stdout


if __name__ == "__main__":
    main()
