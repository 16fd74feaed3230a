"""The Quix Streams contender: keyed count in its RocksDB state with a changelog, one output per event, exactly once.

Runs in a virtual environment of its own (bench/.venv-quix), for its pins of the Kafka client differ from ours.
"""

import argparse
from typing import Any

from quixstreams import Application, State


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap-servers", "--input", "--output", "--group", "--state-dir"):
        parser.add_argument(name, required=True)
    parser.add_argument("--commit-interval-s", type=float, default=0.1)
    return parser.parse_args()


def count(event: dict[str, Any], state: State) -> dict[str, int]:
    seen = (state.get("count") or 0) + 1
    state.set("count", seen)
    return {"count": seen}


def main() -> None:
    options = arguments()
    app = Application(
        broker_address=options.bootstrap_servers,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=options.commit_interval_s,
        state_dir=options.state_dir,
        producer_extra_config={"linger.ms": 5, "retry.backoff.ms": 1, "batch.size": 1_000_000},
        loglevel="WARNING",
    )
    events = app.topic(options.input, key_deserializer="bytes", value_deserializer="json")
    counted = app.topic(options.output, key_serializer="bytes", value_serializer="json")
    app.dataframe(events).apply(count, stateful=True).to_topic(counted)
    app.run()


if __name__ == "__main__":
    main()
