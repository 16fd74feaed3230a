"""`odradek replay` and `odradek replays`, as operators use them: a range, dead letters, one that is watched, cancelled, refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from odradek_runtime.cli.operator import Operator
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.http.admin import wire
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import LogError, Partition
from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until
from tests.records import committed

STRICT = """    if order.cents % 10 == 3 and not Path("fixed").exists():
        raise TerminalError("three")
"""
ORDERS = 200
BAD = ORDERS // 10


def shop(prefix: str = "") -> str:
    """The shop that refuses some orders until there is a file `fixed`."""
    strict = SHOP.replace("    ctx.set(spent, ctx.get(spent) + order.cents)\n", STRICT, 1)
    strict = strict.replace('"orders"', f'"{prefix}orders"').replace('"invoices"', f'"{prefix}invoices"')
    return "from pathlib import Path\n" + strict


@pytest.fixture
def serving(run: Run, folder: Path) -> Iterator[Serving]:
    (folder / "again.py").write_text(shop())
    rows = "".join(json.dumps({"customer": f"c{n % 7}", "cents": n}) + "\n" for n in range(ORDERS))
    (folder / "orders.jsonl").write_text(rows)
    with Serving("dev", "again:app", "--no-reload") as serving:
        serving.worker()
        run("publish", "orders", "orders.jsonl", "--key", "customer", "--app", "again:app")
        until(lambda: len(invoiced(run)) == ORDERS - BAD, "an invoice for each good order")
        yield serving


def invoiced(run: Run) -> list[int]:
    return sorted(json.loads(line)["cents"] for line in run("consume", "invoices").stdout.splitlines())


def test_a_range_is_shown_then_delivered_and_told_of(run: Run, serving: Serving) -> None:
    refused = run("replay", "orders", ok=False, stdin="n\n")
    assert "nothing was delivered" in refused.stderr
    said = run("replay", "orders", "--key", "c1", "--key", "c2", "--id", "two-keys", stdin="y\n")
    mine = [n for n in range(ORDERS) if n % 7 in (1, 2)]
    assert f"{len(mine)} ({ORDERS - len(mine)} of other keys are passed over)" in said.stderr
    assert "customer/ordered" in said.stderr and "UTC" in said.stderr
    bad = sum(n % 10 == 3 for n in mine)
    assert f"{bad} of these records" not in said.stderr, "all dead letters of the range are counted, of whatever key"
    assert f"{BAD} of these records lie in shop.dead-letters" in said.stderr
    assert f"two-keys: {len(mine)} records · {len(mine) - bad} ended well · {bad} dead letters" in said.stdout
    assert invoiced(run) == sorted([n for n in range(ORDERS) if n % 10 != 3] + [n for n in mine if n % 10 != 3])
    run("publish", "orders", "orders.jsonl", "--key", "customer", "--app", "again:app")
    again = run("replay", "orders", "--key", "c2", "--key", "c1", "--id", "two-keys", "--yes")
    refused = run("replay", "orders", "--key", "c1", "--id", "two-keys", "--yes", ok=False)
    assert "has begun before, and differs: it is of 2 keys, and these are 1" in " ".join(refused.stderr.split())
    refused = run("replay", "orders", "--key", "c1", "--key", "c2", "--to", "0", "--id", "two-keys", "--yes", ok=False)
    assert "in it, not from 0 to 0" in " ".join(refused.stderr.split())
    assert "has begun before" in again.stderr and f"two-keys: {len(mine)} records" in again.stdout
    listed = json.loads(run("replays", "--json").stdout)
    assert [(each["id"], each["status"], each["started"]) for each in listed] == [("two-keys", "done", len(mine))]
    assert "two-keys" in run("replays").stdout
    assert f"two-keys: {len(mine)} records" in run("replay", "orders", "--resume", "two-keys").stdout
    serving.hears("replay two-keys begins: orders")
    serving.hears(f"two-keys of orders is over, done: {len(mine)} records, {len(mine) - bad} ended well, {bad} dead letters; asked")


def test_dead_letters_after_a_fix_and_only_once(run: Run, serving: Serving, folder: Path) -> None:
    still = run("replay", "shop.dead-letters", "--yes").stdout
    assert f"{BAD} records · 0 ended well · {BAD} dead letters" in still
    (folder / "fixed").touch()
    fixed = run("replay", "shop.dead-letters", "--yes").stdout
    assert f"{BAD} records · {BAD} ended well · 0 dead letters" in fixed
    assert "there is nothing to deliver" in run("replay", "shop.dead-letters", "--yes").stderr
    assert invoiced(run) == list(range(ORDERS))
    for line in run("consume", "shop.dead-letters", "--headers").stdout.splitlines()[BAD:]:
        headers = dict(json.loads(line)["headers"])
        assert (headers["odradek-redriven"], headers["odradek-error"]) == ("1", "three")


def test_one_that_is_slow_is_cancelled(run: Run, serving: Serving) -> None:
    begun = run("replay", "orders", "--rate", "20", "--no-wait", "--yes", "--id", "slow")
    assert begun.stdout == "slow\n"
    assert f"{ORDERS} not looked at" in " ".join(begun.stderr.split()).replace(",", "")
    assert "time span" not in begun.stderr, "who is asked nothing does not wait until it is counted"
    until(lambda: any(each["started"] for each in json.loads(run("replays", "--json").stdout)), "the first records")
    told = run("replays", "--cancel", "slow").stdout
    assert "slow cancelled:" in told
    (report,) = json.loads(run("replays", "--json").stdout)
    assert 0 < report["started"] < ORDERS
    assert report["started"] == report["ended_well"] + report["dead_letters"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope"], "topic 'nope' does not exist"),
        (["invoices"], "does not subscribe to 'invoices'"),
        (["shop.journal"], "does not subscribe to 'shop.journal'"),
        (["orders", "--handler", "customer/order"], "did you mean 'customer/ordered'?"),
        (["orders", "--from", "soon"], "--from 'soon' is no offset"),
        (["orders", "--from", "100000"], "ends at"),
        (["orders", "--partition", "99"], "there is no partition 99"),
        (["orders", "--id", "a/b"], "is not 1 to 60 letters"),
        (["orders", "--id", "reset-1"], "begins with reset-"),
        (["orders", "--resume", "none"], "there is no replay 'none'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    run: Run, serving: Serving, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    monkeypatch.setattr("odradek_runtime.cli.replay.UNSEEN_S", 0.0)
    refused = run("replay", *args, "--yes", ok=False)
    assert said in refused.stderr
    assert json.loads(run("replays", "--json").stdout) == []


def test_without_a_worker_it_says_where_to_run_it(run: Run) -> None:
    refused = run("replay", "orders", "--yes", ok=False)
    assert "no worker runs in" in refused.stderr and "kubectl exec" in refused.stderr


def test_a_worker_that_has_restarted_at_the_same_port_has_another_token(run: Run, serving: Serving, folder: Path) -> None:
    file = folder / ".odradek" / "worker.json"
    now = json.loads(file.read_text())
    file.write_text(json.dumps({**now, "token": "of the one before"}))
    file.chmod(0o600)
    with Operator(Settings(data_dir=folder / ".odradek")) as operator:
        with pytest.raises(LogError, match="authorization"):
            operator.ask("GET", "/replays", wire.Replays)
        file.unlink()  # it serves already, and has not written it yet
        threading.Timer(0.5, file.write_text, [json.dumps(now)]).start()
        assert operator.ask("GET", "/replays", wire.Replays).replays == []


def test_on_kafka_two_workers_answer_for_each_other(run: Run, folder: Path, kafka: str, topic_prefix: str) -> None:
    code = shop(f"{topic_prefix}-").replace('App("shop")', f'App("{topic_prefix}")')
    (folder / "again.py").write_text(code)
    on_kafka = ("--bootstrap-servers", kafka)
    rows = "".join(json.dumps({"customer": f"c{n % 7}", "cents": n}) + "\n" for n in range(ORDERS))
    (folder / "orders.jsonl").write_text(rows)
    orders, invoices = f"{topic_prefix}-orders", f"{topic_prefix}-invoices"
    args = ("--create-topics", "--replication-factor", "1", "--workers", "2", *on_kafka)
    with Serving("run", "again:app", *args, data_dir=folder / ".odradek" / "worker-0") as serving:
        serving.worker()
        run("publish", orders, "orders.jsonl", "--key", "customer", "--app", "again:app", *on_kafka)

        def out() -> int:
            return len(run("consume", invoices, *on_kafka).stdout.splitlines())

        until(lambda: out() == ORDERS - BAD, "an invoice for each good order")
        told = run("replay", orders, "--id", "all", "--yes", *on_kafka).stdout
        assert f"all: {ORDERS} records · {ORDERS - BAD} ended well · {BAD} dead letters" in told
        assert out() == 2 * (ORDERS - BAD)
        (folder / "fixed").touch()
        told = run("replay", f"{topic_prefix}.dead-letters", "--yes", *on_kafka).stdout
        assert f"{2 * BAD} records · {2 * BAD} ended well" in told
        number, gone, left, empty = half_gone(kafka, orders)
        rest = run("replay", orders, "--from", "0", "--id", "rest", *on_kafka, stdin="y\n")
        shown = " ".join(rest.stderr.split())
        assert f"gone {gone} offsets at the beginning of partition {number}: deleted" in shown
        assert f"empty {empty} offsets without a record" in shown
        counts = f"{left} records · {left} ended well · 0 dead letters"
        assert f"{counts} · {gone} offsets had been deleted · {empty} offsets without a record;" in rest.stdout


def half_gone(servers: str, topic: str) -> tuple[int, int, int, int]:
    """Half of the fullest partition is deleted. Gives its number, how many offsets that were, what is left, and how many marks."""
    with closing(KafkaLog(servers)) as log:
        info = log.topic(topic)
        assert info is not None
        fullest = max((Partition(topic, number) for number in range(info.partitions)), key=lambda each: log.offsets(each)[1])
        gone = log.offsets(fullest)[1] // 2
        log.trim(fullest, gone)
        left = sum(1 for _ in committed(log, topic))
        bounds = [log.offsets(Partition(topic, number)) for number in range(info.partitions)]
        return fullest.partition, gone, left, sum(end - begin for begin, end in bounds) - left
