"""The admin port: probes and metrics for everybody, topics for who holds the token."""

from __future__ import annotations

import asyncio
import base64
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request as HttpRequest

from odradek_runtime.core.metrics import NO_HANDLER, HandlerMetrics, Metrics
from odradek_runtime.http.admin.access import Access, Blocking
from odradek_runtime.http.admin.client import RemoteLog
from odradek_runtime.http.admin.exposition import COUNTERS
from odradek_runtime.http.admin.topics import TopicRoutes
from odradek_runtime.log.port import LogError, Output, Partition, Publisher
from tests.ingress.conftest import TOKEN, Site
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx


def samples(site: Site) -> dict[str, float]:
    reply = site.admin.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_health_and_ready(site: Site) -> None:
    assert site.admin.get("/health").json() == {"status": "ok"}
    assert site.admin.get("/ready").json() == {"status": "ready", "shards": [0, 1, 2, 3]}


def test_ready_says_which_shards_are_not(site: Site) -> None:
    site.worker.ready = False
    assert site.admin.get("/ready").json()["message"] == "waiting for the first assignment of shards"
    site.worker.restoring = {2: {"done_records": 10, "total_records": 90}}
    reply = site.admin.get("/ready")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["message"] == "restoring shards 2 (10 of 90 records)"
    assert site.admin.get("/health").status_code == 200


def test_a_failed_engine_is_neither_alive_nor_ready(site: Site) -> None:
    site.worker.failed = RuntimeError("disk full")
    for path in ("/health", "/ready"):
        reply = site.admin.get(path)
        assert reply.status_code == 503
        assert reply.json()["message"] == "the engine has failed: RuntimeError (the worker's log has more)"


def test_metrics(site: Site) -> None:
    metrics = site.worker.metrics
    metrics.events, metrics.epochs = 11, 3
    metrics.handlers["customer/add"] = HandlerMetrics(retries=1, step_retries=2, dead_letters=2, skipped=4, paused=5)
    metrics.handlers[NO_HANDLER] = HandlerMetrics(dead_letters=3)
    for seconds in (0.0005, 0.004, 99.0):
        metrics.commit_s.observe(seconds)
    site.worker.restoring = {2: {"done_records": 10, "total_records": 90}}
    found = samples(site)
    expected = {
        "odradek_events_total": 11,
        "odradek_epochs_total": 3,
        "odradek_dead_letters_total{handler=add,service=customer}": 2,
        "odradek_dead_letters_total{handler=,service=}": 3,
        "odradek_invocations_retries_total{handler=add,service=customer}": 1,
        "odradek_retries_total{handler=add,service=customer}": 3,
        "odradek_skipped_total{handler=add,service=customer}": 4,
        "odradek_paused_total{handler=add,service=customer}": 5,
        "odradek_commit_latency_seconds_count": 3,
        "odradek_commit_latency_seconds_bucket{le=0.001}": 1,
        "odradek_commit_latency_seconds_bucket{le=0.005}": 2,
        "odradek_commit_latency_seconds_bucket{le=+Inf}": 3,
        "odradek_lag_records{partition=1,topic=orders}": 7,
        "odradek_invocations{handler=add,service=customer,status=paused}": 3,
        "odradek_invocations_oldest_seconds{handler=add,service=customer,status=paused}": 60.5,
        "odradek_timers_pending{kind=sleep}": 4,
        "odradek_timers_due{kind=sleep}": 1,
        "odradek_outbox_commands{app=billing}": 2,
        "odradek_outbox_oldest_seconds{app=billing}": 30.5,
        "odradek_census_age_seconds": 2.5,
        "odradek_lag_seconds{partition=1,topic=orders}": 12.5,
        "odradek_shards_owned": 4,
        "odradek_shards_restoring": 1,
        "odradek_restore_remaining_records{shard=2}": 80,
        "odradek_invocations_in_flight": 3,
        "odradek_coroutines_cached": 2,
        "odradek_held_bytes{share=suspended}": 77,
        "odradek_queue_length{queue=steps}": 5,
        "odradek_ready": 1,
        "odradek_http_requests_waiting": 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["odradek_commit_latency_seconds_sum"] == pytest.approx(99.0045)


def test_every_counter_is_exported(site: Site) -> None:
    apart = {"commit_s", "foreign_records", "handlers", "stalls", "stalled_by", "stalled_s"}
    assert {field.name for field in fields(Metrics)} - apart == set(COUNTERS)
    assert {f"odradek_{name}_total" for name in COUNTERS} <= set(samples(site))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/topics"),
        ("POST", "/topics"),
        ("GET", "/topics/orders"),
        ("GET", "/topics/orders/offsets"),
        ("GET", "/topics/orders/records"),
        ("POST", "/records?name=n&position=1"),
        ("GET", "/publishers?name=n"),
        ("DELETE", "/publishers?name=n"),
    ],
)
def test_topics_need_the_token(site: Site, method: str, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        reply = site.admin.request(method, path, headers=headers)
        assert reply.status_code == 401
        assert "worker.json" in reply.json()["message"]


@pytest.fixture
def site(open_site: Callable[[ScriptedWorker], Site]) -> Site:
    """One of its own for each test, for the log's sake."""
    return open_site(ScriptedWorker())


@pytest.fixture
def remote(site: Site) -> Iterator[RemoteLog]:
    remote = RemoteLog(site.at.admin_url, TOKEN)
    yield remote
    remote.close()


def test_a_remote_log_has_the_topics_of_the_real_one(site: Site, remote: RemoteLog) -> None:
    assert remote.topic("a b/c") is None
    made = remote.create_topic("orders", 3, {"retention.ms": "-1"})
    assert made == remote.topic("orders") == site.log.topic("orders")
    assert list(remote.topics()) == ["orders"]
    assert remote.offsets(Partition("orders", 2)) == (0, 0)


def test_records_published_remotely_are_read_remotely(site: Site, remote: RemoteLog) -> None:
    remote.create_topic("orders", 2, {})
    publisher = remote.publisher("run: a/b?c")
    assert publisher.position() == 0
    headers: list[tuple[str, bytes | None]] = [("h", b"\x00"), ("n", None)]
    publisher.publish([Output("orders", 1, b"k", b"\xff", headers, 1234567890123), Output("orders", 1, None, None)], 2)
    publisher.publish([], 5)
    publisher.close()
    assert remote.publisher("run: a/b?c").position() == 5
    first, second = [m for batch in remote.scan(Partition("orders", 1), 0, 2) for m in batch]
    assert (first.topic(), first.partition(), first.offset()) == ("orders", 1, 0)
    assert (first.key(), first.value(), first.headers()) == (b"k", b"\xff", headers)
    assert first.timestamp()[1] == 1234567890123
    assert (second.key(), second.value()) == (None, None)
    assert remote.offset_at(Partition("orders", 1), 1234567890124) == 1


def test_requests_that_come_together_have_one_publisher_of_a_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened twice, the second fences the first: whichever is kept, the other request's is lost."""
    site.log.create_topic("orders", 1, {})
    routes = TopicRoutes(site.log, Access(TOKEN), Blocking())
    opened: list[str] = []
    both_are_there = threading.Event()
    make = site.log.publisher

    def publisher(name: str) -> Publisher:
        made = make(name)
        opened.append(name)
        if len(opened) == 1:
            both_are_there.wait(30)
        return made

    monkeypatch.setattr(site.log, "publisher", publisher)

    def request(path: str, query: bytes, body: bytes = b"") -> HttpRequest:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body}

        headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
        return HttpRequest({"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers}, receive)

    async def ask() -> None:
        asked = [asyncio.create_task(routes.position(request("/publishers", b"name=p"))) for _ in range(2)]
        for _ in range(10):
            await asyncio.sleep(0)
        both_are_there.set()
        await asyncio.gather(*asked)
        await routes.publish(request("/records", b"name=p&position=1", b'[["orders", 0, null, "AA=="]]'))
        await routes.close()

    asyncio.run(ask())
    assert opened == ["p"]
    assert site.log.publisher("p").position() == 1


def test_a_scan_goes_on_over_pages(site: Site, remote: RemoteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odradek_runtime.http.admin.topics.PAGE_RECORDS", 10)
    remote.create_topic("orders", 1, {})
    remote.publisher("p").publish([Output("orders", 0, None, str(n).encode()) for n in range(25)], 25)
    batches = list(remote.scan(Partition("orders", 0), 3, 25))
    assert [m.value() for batch in batches for m in batch] == [str(n).encode() for n in range(3, 25)]
    assert len(batches) == 3
    assert list(remote.scan(Partition("orders", 0), 25, 25)) == []


def test_errors_keep_their_words(site: Site, remote: RemoteLog) -> None:
    remote.create_topic("orders", 2, {})
    with pytest.raises(LogError, match="no topic 'order'; did you mean 'orders'"):
        remote.offsets(Partition("order", 0))
    with pytest.raises(LogError, match="partition: orders has partitions 0 to 1, not 7"):
        remote.offsets(Partition("orders", 7))
    with pytest.raises(LogError, match=r"\$\.partitions: must be at least 1"):
        remote.create_topic("x", 0, {})
    with pytest.raises(LogError, match="for workers"):
        remote.peers("shop")
    with pytest.raises(LogError, match="has it ended"):
        RemoteLog("http://127.0.0.1:9", TOKEN).topics()


def test_people_may_speak_json_with_base64(site: Site) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    made = site.admin.post("/topics", json={"name": "orders", "partitions": 1, "config": {}}, headers=headers)
    assert made.json()["partitions"] == 1
    body = [["orders", 0, None, base64.b64encode(b"\x00\x01").decode()]]
    assert site.admin.post("/records?name=n&position=1", json=body, headers=headers).json() == {"position": 1}
    page = site.admin.get("/topics/orders/records?partition=0&offset=0&max=5", headers=headers).json()
    assert page["next_offset"] == 1
    assert base64.b64decode(page["records"][0][3]) == b"\x00\x01"


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/records?name=n", "[]", "position: is required"),
        ("POST", "/records?position=1", "[]", "name: is required"),
        ("POST", "/records?name=n&position=1", '[["orders", "x"]]', "body: Expected"),
        ("POST", "/topics", '{"name": 5}', "body: Expected `str`, got `int`"),
        ("GET", "/topics/orders/records?partition=x", "", "partition: 'x' is not a whole number"),
        ("GET", "/publishers", "", "name: is required"),
    ],
)
def test_bad_input_names_its_field(site: Site, method: str, path: str, body: str, said: str) -> None:
    site.log.create_topic("orders", 1, {})
    reply = site.admin.request(method, path, content=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 400
    assert reply.json()["message"].startswith(said)


def test_unknown_paths_are_json_too(site: Site) -> None:
    reply: httpx.Response = site.admin.get("/nothing")
    assert (reply.status_code, reply.json()["message"]) == (404, "GET /nothing: Not Found")
    assert site.admin.post("/health").status_code == 405
