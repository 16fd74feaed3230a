"""A handler that keeps the worker's loop is reported while it does, once, with its stack; what merely waits is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, until

SLOW = (
    "import pathlib, time\n"
    + SHOP
    + """
@customer.handler
async def sleepy(ctx: ObjectContext) -> None:
    deep(0)

def deep(times: int) -> None:
    while not pathlib.Path("wake").exists():
        time.sleep(0.01)

@customer.handler
async def digging(ctx: ObjectContext) -> None:
    sum(range(60_000_000))
    while not pathlib.Path("wake").exists():
        pass

@customer.handler
async def in_a_step(ctx: ObjectContext) -> None:
    await ctx.run(deep, 0)

slow_orders = app.topic("slow", value=Order)

@customer.on(slow_orders)
async def unhurried(ctx: ObjectContext, order: Order) -> None:
    time.sleep(0.2)
"""
)
LIMIT = {"ODRADEK_HANDLER_STALL_S": "0.4"}


def metric(worker: dict[str, str], name: str) -> dict[tuple[str, ...], float]:
    text = httpx.get(worker["admin_url"] + "/metrics").text
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items(), reverse=True)): sample.value for sample in samples}


@pytest.mark.parametrize("handler", ["sleepy", "digging"])
def test_a_handler_that_keeps_the_loop_is_reported_once_with_its_stack(run: Run, folder: Path, handler: str) -> None:
    (folder / "shop.py").write_text(SLOW)
    with Serving("run", "shop:app", env=LIMIT) as serving:
        worker = serving.worker()
        sent = httpx.post(f"{worker['url']}/customer/bob/total")
        assert sent.is_success
        with httpx.Client(timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
            client.post(f"{worker['url']}/customer/bob/{handler}")
        serving.hears(f"customer/{handler} (inv_")
        until(lambda: metric(worker, "odradek_loop_stalled_seconds")[()] > 0.9, "the gauge")
        until(lambda: httpx.get(worker["admin_url"] + "/ready").status_code == 503, "no longer ready")
        why = httpx.get(worker["admin_url"] + "/ready").json()["message"]
        assert f"customer/{handler} (inv_" in why
        assert "has kept the worker's loop for" in why
        assert httpx.get(worker["admin_url"] + "/health").is_success
        (folder / "wake").touch()
        serving.hears("the worker's loop goes on after")
        until(lambda: httpx.get(worker["admin_url"] + "/ready").is_success, "ready again")
        assert run("call", "customer/bob/total").stdout == "0\n"
        assert metric(worker, "odradek_loop_stalls_total") == {("customer", handler): 1.0}
        assert metric(worker, "odradek_loop_stalled_seconds") == {(): 0.0}
        assert serving.stop() == 0
    assert serving.said.count("has kept the worker's loop for") == 1
    assert f"in {handler}" in serving.said
    assert "put what takes long into a step" in serving.said
    assert "watchdog.py" not in serving.said
    assert "lane.py" not in serving.said


def test_many_short_ones_in_a_row_are_called_so(run: Run, folder: Path) -> None:
    (folder / "shop.py").write_text(SLOW)
    with Serving("run", "shop:app", env=LIMIT) as serving:
        serving.worker()
        run("publish", "slow", "-", "--key", "customer", stdin='{"customer": "b", "cents": 1}\n' * 10)
        serving.hears("a row of handlers without a pause, now customer/unhurried (slow[")
        serving.hears("the worker's loop goes on after")


def test_steps_idleness_and_a_stopped_process_are_no_stalls(run: Run, folder: Path) -> None:
    (folder / "shop.py").write_text(SLOW)
    with Serving("run", "shop:app", env=LIMIT) as serving:
        worker = serving.worker()
        run("call", "customer/bob/in_a_step", "--send")
        pid = int(worker["pid"])
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0)  # what is tested is the time that passes
        os.kill(pid, signal.SIGCONT)
        assert run("call", "customer/ann/total").stdout == "0\n"
        (folder / "wake").touch()
        assert run("call", "customer/bob/total").stdout == "0\n"
        assert metric(worker, "odradek_loop_stalls_total") == {}
        assert serving.stop() == 0
    assert "has kept the worker's loop" not in serving.said
