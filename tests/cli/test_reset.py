"""`odradek reset`: what it shows, does to an app that stands still and to one that runs, on both logs, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from odradek_runtime.cli import reset
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Peer
from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until

CENTS = [("bob", 3), ("bob", 4), ("ann", 5)]
ROWS = "customer,cents\n" + "".join(f"{name},{cents}\n" for name, cents in CENTS)
ALL = sum(cents for _, cents in CENTS)


def rows(printed: str) -> list[list[str]]:
    """The table's, as words."""
    lines = printed.splitlines()
    start = next(at for at, line in enumerate(lines) if line.split()[:1] == ["PARTITION"])
    return [line.split() for line in lines[start + 1 :] if line.split()[:1] and line.split()[0].isdigit()]


def totals(run: Run, *where: str) -> int:
    return sum(int(run("call", f"customer/{name}/total", *where).stdout) for name in ("bob", "ann"))


@pytest.fixture
def shop(run: Run, folder: Path) -> Path:
    """It has processed the orders, and runs no more."""
    (folder / "orders.csv").write_text(ROWS)
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        run("publish", "orders", "orders.csv", "--key", "customer", "--app", "shop:app")
        until(lambda: totals(run) == ALL, "the orders")
        assert serving.stop() == 0
    return folder


def test_of_an_app_that_stands_still_and_of_one_that_runs(run: Run, shop: Path) -> None:
    shown = run("reset", "--topic", "orders", "--to", "earliest").stdout
    assert "orders, as the app shop reads it (the embedded log in .odradek)" in shown
    assert "nothing was moved: --yes does it" in shown
    moved = [row for row in rows(shown) if row[1] != row[2]]
    assert sum(int(now) for _, now, *_ in moved) == len(CENTS)
    assert {then for _, _, then, _ in moved} == {"0"}
    assert rows(run("reset", "--topic", "orders", "--to", "earliest").stdout) == rows(shown), "nothing was moved"

    said = run("reset", "--topic", "orders", "--to", "earliest", "--yes").stdout
    assert f"moved: {len(CENTS)} read again" in said
    assert "nothing to move" in run("reset", "--topic", "orders", "--to", "earliest", "--yes").stdout
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: totals(run) == 2 * ALL, "the orders once more")
        said = run("reset", "--topic", "orders", "--to", "1h", "--yes").stdout
        assert f"moved: {len(CENTS)} read again" in said
        until(lambda: totals(run) == 3 * ALL, "the orders a third time")
        assert serving.stop() == 0
    assert "asked for by " in serving.said


def test_what_has_not_been_read_is_left_out(run: Run, shop: Path) -> None:
    run("publish", "orders", "-", "--key", "customer", "--app", "shop:app", stdin='{"customer": "bob", "cents": 1000}\n')
    assert "moved: 1 skipped" in run("reset", "--topic", "orders", "--to", "latest", "--yes").stdout
    run("publish", "orders", "-", "--key", "customer", "--app", "shop:app", stdin='{"customer": "bob", "cents": 1}\n')
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: totals(run) == ALL + 1, "the last order")
        assert serving.stop() == 0


REFUSED = {
    "--topic order --to earliest": ("topic 'order' does not exist", "did you mean orders?"),
    "--topic invoices --to earliest": ("has no position in 'invoices'", "it does not subscribe to it"),
    "--topic shop.journal --to earliest": ("has no position in 'shop.journal'",),
    "--topic orders --partition 99 --to 0": ("orders has partitions 0 to 7, not 99",),
    "--topic orders --to noon": ("--to 'noon' is no offset", "--to earliest"),
    "--topic orders --partition 0 --to 99999": ("--to 99999: orders[0] ends at offset", "or latest"),
    "--topic orders --to 0 --app sho": ("there is no app 'sho' here", "did you mean shop?"),
}


def test_what_makes_no_sense_is_refused(run: Run, shop: Path) -> None:
    for flags, said in REFUSED.items():
        refused = run("reset", *flags.split(), "--yes", ok=False)
        assert refused.exit_code == 2
        told = " ".join(refused.stderr.split())
        assert [part for part in said if part not in told] == []


def test_state_is_cleared_of_an_app_that_stands_still(run: Run, shop: Path) -> None:
    again = ("reset", "--topic", "orders", "--to", "earliest", "--clear-state", "customer")
    shown = run(*again).stdout
    assert "the state of customer: 2 values will be deleted" in shown and "nothing was moved" in shown
    refused = run(*again[:-1], "customers", "--yes", ok=False)
    assert "the app shop has no state of 'customers'" in refused.stderr and "did you mean customer?" in refused.stderr
    assert "the state of customer cleared" in run(*again, "--yes").stdout
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: totals(run) == ALL, "the orders, counted from the beginning")
        refused = run(*again, "--yes", ok=False)
        assert "--clear-state is for an app that stands still" in refused.stderr and "stop its workers" in refused.stderr
        assert totals(run) == ALL
        assert serving.stop() == 0


def test_where_several_apps_read_the_topic_one_is_named(run: Run, shop: Path) -> None:
    (shop / "twin.py").write_text(SHOP.replace('App("shop")', 'App("twin")'))
    with Serving("dev", "twin:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: totals(run) == ALL, "the orders, read by the other app")
        refused = run("reset", "--topic", "orders", "--to", "earliest", ok=False)
        assert "shop, twin read orders" in refused.stderr and "--app NAME" in refused.stderr
        other = run("reset", "--topic", "orders", "--to", "earliest", "--app", "shop", "--yes", ok=False)
        assert "the app 'twin' runs here, and not 'shop'" in other.stderr
        run("reset", "--topic", "orders", "--to", "earliest", "--app", "twin", "--yes")
        until(lambda: totals(run) == 2 * ALL, "the orders once more")
        assert serving.stop() == 0


def test_on_kafka(run: Run, folder: Path, kafka: str, topic_prefix: str) -> None:
    orders, invoices = f"{topic_prefix}-orders", f"{topic_prefix}-invoices"
    source = SHOP.replace('"orders"', f'"{orders}"').replace('"invoices"', f'"{invoices}"').replace('"shop"', f'"{topic_prefix}"')
    (folder / "kafkashop.py").write_text(source)
    (folder / "orders.csv").write_text(ROWS)
    on_kafka = ("--bootstrap-servers", kafka)
    run("topics", "--create", invoices, "--partitions", "4", *on_kafka)
    run("publish", orders, "orders.csv", "--key", "customer", "--app", "kafkashop:app", "--create", "--partitions", "4", *on_kafka)
    again = ("reset", "--topic", orders, "--to", "earliest", "--yes", *on_kafka)

    def invoiced() -> int:
        return len(run("consume", invoices, *on_kafka).stdout.splitlines())

    serve = ("run", "kafkashop:app", "--workers", "2", *on_kafka)
    data_dir = folder / ".odradek" / "worker-0"
    with Serving(*serve, data_dir=data_dir) as serving:
        serving.worker()
        until(lambda: invoiced() == len(CENTS), "an invoice for each order")
        assert "read again" in run(*again).stdout
        until(lambda: invoiced() == 2 * len(CENTS), "an invoice for each order, once more")
        assert serving.stop() == 0
    assert "read again" in run(*again).stdout
    with Serving(*serve, data_dir=data_dir) as serving:
        serving.worker()
        until(lambda: invoiced() == 3 * len(CENTS), "an invoice for each order, a third time")
        assert serving.stop() == 0


def test_an_order_that_nobody_takes_says_where_it_stands(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when all workers have just died: the group still has them."""
    monkeypatch.setattr(EmbeddedLog, "peers", lambda log, app: [Peer(None, (0,))])
    monkeypatch.setattr(reset, "TAKEN_S", 0.5)
    refused = run("reset", "--topic", "orders", "--to", "earliest", "--yes", ok=False)
    assert "within 0.5 s" in refused.stderr and "the order stands in shop.commands" in refused.stderr
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: totals(run) == 2 * ALL, "the order is carried out at the start")
        assert serving.stop() == 0
