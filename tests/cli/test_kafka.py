"""The commands on Kafka: two workers of one node, one of them killed; publish, consume, call, resume."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx

from tests.cli.conftest import SHOP, Run, environment
from tests.cli.workers import Serving, until

NOTHING = """
@app.handler
async def nothing(ctx: Context) -> None:
    pass
"""


def test_two_workers_share_the_work_and_one_death_is_survived(run: Run, folder: Path, kafka: str, topic_prefix: str) -> None:
    orders, invoices = f"{topic_prefix}-orders", f"{topic_prefix}-invoices"
    shop = SHOP.replace('"orders"', f'"{orders}"').replace('"invoices"', f'"{invoices}"').replace('"shop"', f'"{topic_prefix}"')
    (folder / "kafkashop.py").write_text(shop)
    numbers = range(1, 201)
    rows = "".join(f"c{number % 7},{number}\n" for number in numbers)
    (folder / "orders.csv").write_text("customer,cents\n" + rows)
    on_kafka = ("--bootstrap-servers", kafka)
    run("topics", "--create", invoices, "--partitions", "4", *on_kafka)
    publish = ("publish", orders, "orders.csv", "--key", "customer", "--app", "kafkashop:app", *on_kafka)
    assert "does not exist" in run(*publish, ok=False).stderr
    said = run(*publish, "--create", "--partitions", "4").stdout
    assert f"published 200 records to {orders} (4 partitions, Kafka at {kafka})" in said
    assert "published 0 records" in run(*publish, "--resume").stdout

    first, second = (folder / ".odradek" / f"worker-{index}" / "worker.json" for index in (0, 1))
    with Serving("run", "kafkashop:app", "--workers", "2", *on_kafka, data_dir=first.parent) as serving:
        before = serving.worker()
        until(second.exists, "the second worker")

        def invoiced() -> int:
            return len(run("consume", invoices, *on_kafka).stdout.splitlines())

        until(lambda: invoiced() == len(numbers), "an invoice for each order")
        os.kill(before["pid"], signal.SIGKILL)
        serving.worker(other_than=before["pid"])
        other = json.loads(second.read_text())["url"]
        expected = sum(number for number in numbers if number % 7 == 3)
        total = ("call", "customer/c3/total", "--url", other)
        assert int(until(lambda: httpx.get(other + "/odradek/health").is_success and run(*total).stdout, "an answer")) == expected
        assert serving.stop() == 0
    assert "worker 0 died (SIGKILL)" in serving.said
    rest = ("--key", "customer", "--app", "kafkashop:app", *on_kafka)
    run("publish", orders, "-", *rest, stdin='{"customer": "bob", "cents": 5}\n' * 3)
    # Of the topic's offsets some are markers of transactions; what is unread is counted in records.
    (line,) = [line.split() for line in run("topics", *on_kafka).stdout.splitlines() if line.startswith(f"{orders} ")]
    assert (line[-2:], int(line[2]) > 203) == ([topic_prefix, "3"], True)
    assert invoiced() == len(numbers)


def test_missing_topics_are_named_at_once_and_made_when_asked(folder: Path, kafka: str, topic_prefix: str) -> None:
    orders, invoices = f"{topic_prefix}-orders", f"{topic_prefix}-invoices"
    shop = SHOP.replace('"orders"', f'"{orders}"').replace('"invoices"', f'"{invoices}"').replace('"shop"', f'"{topic_prefix}"')
    (folder / "kafkashop.py").write_text(shop)
    on_kafka = ("--bootstrap-servers", kafka)
    with Serving("run", "kafkashop:app", *on_kafka) as refused:
        assert refused.process.wait(60) == 2
    said = " ".join(refused.said.split())
    assert f"{orders} (read" in said and f"{invoices} (written" in said and "with 8 partitions" in said
    assert "--create-topics" in said and "odradek topics -b … --create NAME --partitions 8" in said

    asked = ("--workers", "2", "--create-topics", "--replication-factor", "1")
    with Serving("run", "kafkashop:app", *asked, *on_kafka, data_dir=folder / ".odradek" / "worker-0") as serving:
        serving.worker()
        assert serving.stop() == 0
    for name in (orders, invoices):
        assert f"created topic {name} with 8 partitions, replication factor 1" in " ".join(serving.said.split())


CUSTOM = """
import sys
if "odradek_runtime.log.kafka.producer_process" in sys.orig_argv:
    print("of a library", flush=True)
    print("Traceback\\n  of another", file=sys.stderr, flush=True)
"""


def test_what_a_producers_process_says_is_an_object_in_a_json_log(folder: Path, kafka: str, topic_prefix: str) -> None:
    (folder / "kafkashop.py").write_text(f"from odradek import App, Context\napp = App({topic_prefix!r})\n" + NOTHING)
    (folder / "custom").mkdir()
    (folder / "custom" / "sitecustomize.py").write_text(CUSTOM)
    path = f"{folder / 'custom'}{os.pathsep}{environment()['PYTHONPATH']}"
    run = ("run", "kafkashop:app", "--bootstrap-servers", kafka, "--log-format", "json")
    with Serving(*run, env={"PYTHONPATH": path}, data_dir=folder / ".odradek" / "worker-0") as serving:
        serving.worker()
        serving.hears("of another")
        assert serving.stop() == 0
    said = [json.loads(line)["message"] for line in serving.said.splitlines()]
    assert "a producer's process says: of a library\nTraceback\n  of another" in said
