"""examples/enrich.py: killed twice amid a thousand orders, each comes out once, numbered without a gap, whatever came first."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Log
from odradek_runtime.node.log_opening import open_log
from tests.examples.running import Running, example, until
from tests.records import committed

ORDERS = [{"id": f"n{n}", "customer": f"c{n % 7}", "cents": n % 50} for n in range(1_000)]
NAMES = [{"id": f"c{n}", "name": f"Name {n}"} for n in range(1, 7)]  # c0 stays unknown
GOOD = [order for order in ORDERS if order["cents"] and order["customer"] != "c0"]
UNKNOWN = [order for order in ORDERS if order["cents"] and order["customer"] == "c0"]
REFUSED = sum(not order["cents"] for order in ORDERS) + len(UNKNOWN) - 100


@dataclass
class Came:
    """What is in the log."""

    enriched: list[dict[str, Any]]
    refused: int

    @classmethod
    def of(cls, log: Log) -> Came:
        out = [json.loads(message.value() or b"") for message in committed(log, "enriched")]
        return cls(out, sum(1 for _ in committed(log, "orders-refused")))


def lines(running: Running, folder: Path, topic: str, records: list[dict[str, Any]]) -> None:
    """Publish them, as a person would."""
    (folder / f"{topic}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    running.run(f"odradek publish {topic} {topic}.jsonl --key id", f"...published {len(records):,} records to {topic} ...")


def test_killed_amid_a_thousand_orders(tmp_path: Path) -> None:
    first = '{"id": "o1", "customer": "c1", "cents": 250}'
    with example("enrich", tmp_path, "...", {"ODRADEK_EPOCH_EVENTS": "10"}) as running:
        lines(running, tmp_path, "orders", ORDERS[:500])
        running.kill()
        lines(running, tmp_path, "customers", NAMES)
        lines(running, tmp_path, "orders", ORDERS[500:])
        running.kill()
        until(lambda: sum(running.post(f"/account/c{n}/total") for n in range(1, 7)) == 250 + cents(GOOD), "all orders")
    log = open_log(Settings(data_dir=tmp_path / ".odradek"))
    try:
        came = Came.of(log)
    finally:
        log.close()
    assert sorted(one["order"] for one in came.enriched) == sorted(["o1", *(str(order["id"]) for order in GOOD)]), first
    assert came.refused == REFUSED
    by_name: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in came.enriched:
        by_name[one["name"]].append(one)
    assert set(by_name) == {str(customer["name"]) for customer in NAMES}
    for theirs in by_name.values():
        assert [one["number"] for one in theirs] == list(range(1, len(theirs) + 1))
        assert [one["total_cents"] for one in theirs] == list(accumulate(one["cents"] for one in theirs))


def cents(orders: list[dict[str, Any]]) -> int:
    return sum(int(order["cents"]) for order in orders)
