"""`odradek verify` and `odradek rebuild` beside a running worker: what they say, what they find, how they exit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from odradek_runtime.store.data_folder import WORKER_FILE
from odradek_runtime.store.store import RocksStore
from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until

if TYPE_CHECKING:
    pass

ORDERS = "".join(f'{{"customer": "c{n % 50}", "cents": {n}}}\n' for n in range(1, 501))
STORES = Path(".odradek/store/shop")


def bought(run: Run) -> None:
    run("publish", "orders", "-", "--key", "customer", "--app", "shop:app", stdin=ORDERS)
    until(lambda: len(run("consume", "invoices").stdout.splitlines()) == 500, "an invoice for each order")


def shard_of_c7() -> int:
    """Where customer c7 is; the worker must not run."""
    for number in range(8):
        store = RocksStore(STORES / str(number))
        try:
            if store.get(b"scustomer/c7/spent") is not None:
                return number
        finally:
            store.close()
    raise AssertionError("nowhere")


def plant(number: int) -> None:
    store = RocksStore(STORES / str(number))
    store.write([(b"scustomer/c7/spent", b"1"), (b"scustomer/nobody/spent", b"77")])
    store.flush()
    store.close()


def test_what_a_store_has_wrong_is_found_and_built_anew(run: Run, folder: Path) -> None:
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        bought(run)
        said = run("verify").stdout
        assert len(re.findall(r"^shard \d: the store is what the log says \(", said, re.MULTILINE)) == 8
        assert serving.stop() == 0
    number = shard_of_c7()
    plant(number)
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        other = (number + 1) % 8
        found = run("verify", "--shard", str(number), "--shard", str(other), ok=False)
        assert found.exit_code == 1
        assert f"shard {number}: 2 differences (" in found.stdout
        assert f"shard {other}: the store is what the log says" in found.stdout
        lines = [re.sub(r"  +", "|", line.strip()) for line in found.stdout.splitlines()]
        assert f"{number}|state|customer/c7/spent|1 bytes|4 bytes" in lines
        assert f"{number}|state|customer/nobody/spent|2 bytes|-" in lines
        assert f"odradek rebuild --shard {number}" in found.stderr

        assert f"shard {number}: rebuilt from" in run("rebuild", "--shard", str(number)).stdout
        assert f"shard {number}: the store is what the log says" in run("verify", "--shard", str(number)).stdout
        expected = sum(n for n in range(1, 501) if n % 50 == 7)
        assert run("call", "customer/c7/total").stdout.strip() == str(expected)
        assert serving.stop() == 0
    assert len(list(STORES.glob(f"{number}.damaged-*"))) == 1
    assert list(STORES.glob("*.bench")) == []
    assert "wants a store rebuilt: of shard" in serving.said


def test_what_cannot_be_done_says_why_and_what_to_do(run: Run, folder: Path) -> None:
    nobody = run("verify", ok=False).stderr
    assert "no worker runs in .odradek" in nobody
    assert "kubectl exec" in nobody
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        assert "$.shards: the app has shards 0 to 7, not 8" in run("verify", "--shard", "8", ok=False).stderr
        assert "$.shard: the app has shards 0 to 7, not 9" in run("rebuild", "--shard", "9", ok=False).stderr
    assert "--shard" in run("rebuild", ok=False).stderr


def test_help_teaches(run: Run) -> None:
    assert "odradek verify --shard 3 --shard 7" in run("verify", "--help").stdout
    assert "N.damaged-TIME" in run("rebuild", "--help").stdout


def test_any_worker_of_a_node_answers_for_all(run: Run, folder: Path, kafka: str, topic_prefix: str) -> None:
    """They share the admin port, each with a token of its own: which of them a command reaches is chance."""
    names = {"orders": f"{topic_prefix}-orders", "invoices": f"{topic_prefix}-invoices", "shop": topic_prefix}
    shop = SHOP
    for name, renamed in names.items():
        shop = shop.replace(f'"{name}"', f'"{renamed}"')
    (folder / "kafkashop.py").write_text(shop)
    on_kafka = ("--bootstrap-servers", kafka)
    for topic in (names["orders"], names["invoices"]):
        run("topics", "--create", topic, "--partitions", "4", *on_kafka)
    first, second = (folder / ".odradek" / f"worker-{index}" for index in (0, 1))
    with Serving("run", "kafkashop:app", "--workers", "2", *on_kafka, data_dir=first) as serving:
        admin = serving.worker()["admin_url"]
        until((second / WORKER_FILE).exists, "the second worker")
        run("publish", names["orders"], "-", "--key", "customer", "--app", "kafkashop:app", *on_kafka, stdin=ORDERS)
        until(lambda: len(run("consume", names["invoices"], *on_kafka).stdout.splitlines()) == 500, "an invoice for each order")
        until(lambda: httpx.get(admin + "/ready").is_success, "both workers")
        tokens = [json.loads((each / WORKER_FILE).read_text())["token"] for each in (first, second)]
        for token in tokens * 4:
            assert httpx.get(admin + "/topics", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(admin + "/topics", headers={"authorization": "Bearer no"}).status_code == 401
        for _ in range(3):
            said = run("verify").stdout
            assert len(re.findall(r"^shard \d: the store is what the log says", said, re.MULTILINE)) == 4, said
        for number in range(4):
            assert f"shard {number}: rebuilt from" in run("rebuild", "--shard", str(number)).stdout
        assert run("verify").exit_code == 0
        assert serving.stop() == 0
