"""Metrics: all workers of a node in one scrape, labels of handlers, and names that stand in the table of docs/metrics.md."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from odradek_runtime.configuration.worker_file import WorkerFile
from odradek_runtime.core.metrics import HandlerMetrics
from odradek_runtime.http.admin.siblings import Place
from tests.ingress.conftest import TOKEN, Site, running
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Generator

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def note(site: Site, data_dir: Path) -> None:
    """What a node writes once it has started."""
    at = site.at
    file = WorkerFile(
        name="shop", app="", pid=os.getpid(), url=at.url, admin_url=at.admin_url, private_url=at.private_url, token=TOKEN
    )
    file.write(data_dir)


@pytest.fixture
def node(tmp_path: Path) -> Generator[list[Site]]:
    """Two workers of a node that has three: the last does not run."""
    with ExitStack() as stack:
        sites: list[Site] = []
        for index in range(2):
            data_dir = tmp_path / f"worker-{index}"
            worker = ScriptedWorker(owned=range(index, 4, 2 + index))
            worker.metrics.handlers["customer/add"] = HandlerMetrics(started=10 + index)
            sites.append(stack.enter_context(running(worker, Place(index, 3), data_dir)))
            note(sites[-1], data_dir)
        yield sites


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_one_scrape_gives_all_workers_whoever_gets_it(node: list[Site]) -> None:
    for site in node:
        found = samples(site.admin.get("/metrics").text)

        assert [of(found, "odradek_shards_owned", worker=str(index)) for index in range(3)] == [2, 1, None]
        assert [of(found, "odradek_worker_up", worker=str(index)) for index in range(3)] == [1, 1, 0]
        labels = {"service": "customer", "handler": "add"}
        assert [of(found, "odradek_invocations_started_total", worker=str(index), **labels) for index in range(2)] == [10, 11]
        assert len([name for name, _ in found if name == "odradek_ready"]) == 2


def test_a_node_is_ready_when_all_its_workers_are(node: list[Site]) -> None:
    for site in node:
        site.admin.get("/ready")
        reply = site.admin.get("/ready")
        assert (reply.status_code, "worker 2 of this node does not run" in reply.json()["message"]) == (503, True)
    node[1].worker.ready = False
    assert "worker 1 of this node: waiting for the first assignment" in node[0].admin.get("/ready").json()["message"]


def test_every_name_stands_in_the_table_and_every_name_of_the_table_is_exported(node: list[Site]) -> None:
    documented = set(re.findall(r"^\| `(odradek_[a-z_]+)", PAGE.read_text(), re.MULTILINE))
    exported = set(re.findall(r"^# TYPE (odradek_[a-z_]+)", node[0].admin.get("/metrics").text, re.MULTILINE))
    exported = {name for name in exported if not name.endswith("_created")}
    assert documented == exported


def test_the_alerts_of_the_page_use_names_that_are_exported(node: list[Site]) -> None:
    (rules,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    used = set(re.findall(r"odradek_[a-z_]+", rules))
    exported = set(re.findall(r"^# TYPE (odradek_[a-z_]+)", node[0].admin.get("/metrics").text, re.MULTILINE))
    assert used
    assert used <= exported
