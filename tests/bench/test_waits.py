"""`bench.waits`: its load counts and looks at answers, its audits see what is wrong, its table says what was measured.

Stands around whole workers, as the benchmark does; none of these tests cares how quick they are.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET  # of our own making

import httpx
import pytest
from confluent_kafka import Producer

from bench.contenders import ROOT, Run
from bench.waits.__main__ import built
from bench.waits.contenders import CONTENDERS, PEERS
from bench.waits.events import OUTPUTS, Events, counter_in
from bench.waits.exchange import Exchange, Place
from bench.waits.figure import SCENARIOS, Figure, medians
from bench.waits.in_flight import Phase, seen
from bench.waits.load import percentiles_s
from bench.waits.odradek import Odradek, data_dir
from bench.waits.paced_records import measure_paced
from bench.waits.plot import plot
from bench.waits.records_in_flight import measure_in_flight
from bench.waits.report import load, markdown, save
from bench.waits.requests import measure_requests
from bench.waits.rounds import Lengths, Rounds
from bench.waits.site import Contender, Site, Unavailable, Work, until
from bench.workload import Workload, create_topic

EMBEDDED, KAFKA = Odradek(kafka=False), Odradek(kafka=True)
FIGURES = [
    Figure("odradek", "object-32", 1, 4_000, 1_000.0, 500.0, 30.0, 60.0),
    Figure("odradek", "object-32", 2, 4_400, 1_100.0, 510.0, 28.0, 55.0),
    Figure("odradek", "object-32", 3, 12_000, 3_000.0, 490.0, 9.0, 20.0),
    Figure("restate", "object-32", 1, 2_000, 500.0, 2_000.0, 64.0, 90.0),
    Figure("odradek", "paced-10", 1, 60, 10.0, 5_000.0, 12.25, 20.0),
    Figure("streams", "paced-10", 1, 60, 10.0, 5_000.0, 110.0, 130.0),
]


@pytest.fixture
def run(tmp_path: Path, topic_prefix: str) -> Run:
    return Run(topic_prefix, "nobody.asks.it:9092", f"{topic_prefix}-input", tmp_path, 0.1)


@pytest.fixture
def site(run: Run) -> Iterator[Site]:
    with EMBEDDED.serving(run, Work.HTTP) as serving:
        yield serving


def test_requests_are_answered_and_counted(site: Site) -> None:
    for name in ("object-1", "steps-1", "fan-out"):
        figure = measure_requests(site, "embedded", replace(SCENARIOS[name], connections=3), 1, 0.2, 0.05)
        assert (figure.contender, figure.scenario) == ("embedded", name)
        assert figure.count >= 2
        assert figure.p50_ms is not None and figure.p99_ms is not None
        assert 0 < figure.p50_ms <= figure.p99_ms
        assert figure.per_s > 0 and figure.cpu_us > 0


@pytest.mark.parametrize(
    ("path", "expected", "said"),
    [
        ("/work/three_steps", "4", "answered '3', not '4'"),
        ("/work/four_steps", "4", "answered with 404"),
        ("/work/three_steps", None, "counted 3, then 3: an update was lost or doubled"),
    ],
)
def test_a_wrong_answer_fails_the_load(site: Site, path: str, expected: str | None, said: str) -> None:
    wrong = replace(SCENARIOS["steps-1"], path=path, expected=expected)
    with pytest.raises(RuntimeError, match=said):
        measure_requests(site, "embedded", wrong, 1, 0.2, 0.05)


def all_done(site: Site, events: int) -> bool:
    metrics = httpx.get(f"http://127.0.0.1:{site.admin_port}/metrics", trust_env=False).text
    under_way = counter_in(metrics, "odradek_invocations_in_flight")
    return counter_in(metrics, "odradek_steps_total") == events and counter_in(metrics) >= events and not under_way


def test_events_are_processed_and_audited(run: Run) -> None:
    workload = Workload(run.input, 300, 40)
    expected = workload.expected()
    events = Events("events", workload, expected, limit_s=30)
    events.fill_embedded(data_dir(run), run)
    with EMBEDDED.serving(run, Work.EVENTS) as serving:
        until(lambda: all_done(serving, 300), "300 events to be done", serving)
    events.audit_embedded(data_dir(run), run.output)

    expected[b"customer-0"] += 1
    with pytest.raises(RuntimeError, match=r"wrong output: customer-0: \d+ outputs for \d+ events"):
        events.audit_embedded(data_dir(run), run.output)


def test_paced_records_are_seen(kafka: str, run: Run) -> None:
    run = replace(run, bootstrap_servers=kafka)
    for topic in (run.input, run.output):
        create_topic(kafka, topic)
    scenarios = [replace(SCENARIOS["paced-10"], per_s=20), replace(SCENARIOS["paced-1000"], per_s=200)]
    with KAFKA.serving(run, Work.PACED) as serving:
        figures = measure_paced(serving, run, "odradek", scenarios, 1, 0.5)
    assert [figure.scenario for figure in figures] == ["paced-1000", "paced-10"]
    for figure, most in zip(figures, (101, 11), strict=True):
        assert 0 < figure.count <= most
        assert figure.p50_ms is not None and figure.p50_ms > 0


@pytest.mark.parametrize("contender", [KAFKA, Odradek(kafka=True, idempotent=True)], ids=lambda contender: contender.name)
def test_records_in_flight_are_seen(kafka: str, run: Run, contender: Odradek) -> None:
    run = replace(run, bootstrap_servers=kafka)
    for topic in (run.input, run.output):
        create_topic(kafka, topic)
    scenarios = [replace(SCENARIOS[name], in_flight=20) for name in ("in-flight", "in-flight-5ms", "in-flight-hot")]
    with contender.serving(run, Work.IN_FLIGHT) as serving:
        figures = measure_in_flight(serving, run, contender, scenarios, 1, 0.5, 0.1)
    assert [figure.scenario for figure in figures] == ["in-flight", "in-flight-5ms", "in-flight-hot"]
    for figure in figures:
        assert figure.count > 0
        assert figure.p50_ms is not None and figure.p99_ms is not None
        assert 0 < figure.p50_ms <= figure.p99_ms
    assert figures[1].p50_ms is not None and figures[1].p50_ms > 5


def test_no_more_are_in_flight_than_the_phase_says(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    def send(exchange: Exchange, key: int, more: bytes = b"") -> None:
        nonlocal most
        exchange.under_way += 1
        most = max(most, exchange.under_way)

    def read(exchange: Exchange, timeout_s: float) -> int:
        done = min(exchange.under_way, 3)
        exchange.under_way -= done
        exchange.taken_s += [0.25] * done
        return done

    monkeypatch.setattr(Exchange, "send", send)
    monkeypatch.setattr(Exchange, "read", read)
    exchange = Exchange(Place("nobody.asks.it:9092", "input", "output"))
    came = seen(exchange, Phase(in_flight=10, keys=4, step_s=0.0, seconds=0.01, warm_up_s=0.0))
    exchange.close()
    assert (most, exchange.under_way) == (10, 0)
    assert came.records > 0
    assert (came.p50_ms, came.p99_ms) == (250.0, 250.0)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [([(0, 2)], "where 1 was to come"), ([(0, 1), (0, 2)], "customer-0: 2 outputs, and fewer events")],
    ids=["a wrong count", "one too many"],
)
def test_a_wrong_output_fails_the_load_of_records(kafka: str, run: Run, outputs: list[tuple[int, int]], said: str) -> None:
    for topic in (run.input, run.output):
        create_topic(kafka, topic)
    exchange = Exchange(Place(kafka, run.input, run.output))
    exchange.send(0)
    exchange.send(1)
    producer = Producer({"bootstrap.servers": kafka})
    for key, count in outputs:
        producer.produce(run.output, b'{"count":%d}' % count, b"customer-%d" % key)
    producer.flush()
    with pytest.raises(RuntimeError, match=said):
        exchange.drain(20)
    exchange.close()


def test_every_round_begins_with_another_contender() -> None:
    rounds = Rounds("", Path(), list(CONTENDERS.values()), list(SCENARIOS.values()), Lengths(1, 1, 1, 1, 1, 1), {})
    order = {number: [(work, contender.name) for work, contender in rounds.turns(number)] for number in (1, 2)}
    assert sorted(order[1], key=str) == sorted(order[2], key=str)
    firsts = [next(name for work, name in order[number] if work is Work.HTTP) for number in (1, 2)]
    assert firsts == ["odradek", "odradek-idempotent"]
    assert [name for work, name in order[1] if work is Work.PACED] == ["odradek", "streams"]


def test_who_fails_twice_is_left_out_and_a_stop_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def turn(_: Rounds, contender: Contender, work: Work, number: int, say: object) -> list[Figure]:
        asked.append(f"{contender.name} {number}")
        if contender.name == "restate":
            raise RuntimeError("it ended")
        if number == 4:
            raise SystemExit(143)
        return [replace(FIGURES[0], round=number)]

    monkeypatch.setattr(Rounds, "_turn", turn)
    contenders = [CONTENDERS["odradek"], CONTENDERS["restate"]]
    rounds = Rounds("", Path(), contenders, [SCENARIOS["object-32"]], Lengths(1, 1, 1, 1, 1, 1), {})
    figures, failures = rounds.run(9, lambda _: None, lambda: None)
    assert asked == ["odradek 1", "restate 1", "restate 2", "odradek 2", "odradek 3", "odradek 4"]
    assert [figure.round for figure in figures] == [1, 2, 3]
    restate = CONTENDERS["restate"].title
    assert sorted(failures) == [
        f"{restate}, http, round 1: it ended",
        f"{restate}, http, round 2: it ended",
        "stopped in round 4, at odradek, Kafka, http",
    ]


def test_a_peer_that_cannot_be_had_is_told_and_left_out() -> None:
    class Missing:
        name, title, works, counted, own_log = "missing", "A peer", frozenset({Work.HTTP}), True, False

        def build(self) -> None:
            raise Unavailable("there is no npm here")

        def serving(self, run: Run, work: Work) -> AbstractContextManager[Site]:
            raise NotImplementedError

    there, left_out = built([EMBEDDED, Missing()], [SCENARIOS["object-1"]])
    assert there == [EMBEDDED]
    assert left_out == ["left out: A peer: there is no npm here"]


def test_medians_and_ratios_are_of_the_main_figure() -> None:
    found = medians(FIGURES)
    ours = found["object-32", "odradek"]
    assert (ours.main, ours.p50_ms, ours.lowest, ours.highest) == (1_100.0, 28.0, 1_000.0, 3_000.0)
    lines = markdown(FIGURES).splitlines()
    assert "| 28.0 | 55.0 | **1,100** | 1,000 … 3,000 | 500 | 2.20 |" in lines[2]
    assert "| **12.2** | 20.0 | 10 | 12.2 … 12.2 | 5,000 | 0.11 |" in lines[4]  # to Streams: Restate was not there


def test_a_stored_result_is_shown_and_drawn_again(tmp_path: Path) -> None:
    stored = save({"rounds": 3}, FIGURES, ["left out: DBOS"], {"before": [0.0]}, tmp_path)
    assert load(stored).figures == FIGURES
    drawing = tmp_path / "plot.svg"
    shown = subprocess.run(
        [sys.executable, "-m", "bench.waits", "--show", str(stored), "--plot", str(drawing)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert markdown(FIGURES) in shown.stdout
    bars = [each for each in ET.fromstring(drawing.read_text()).iter() if each.tag.endswith("rect")]  # noqa: S314
    assert len(bars) == 1 + len(medians(FIGURES))  # the ground, and one for each median
    assert drawing.read_text() == plot(FIGURES)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json is no result of bench\.waits"):
        load(other)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    asked = [sys.executable, "-m", "bench.waits", "--peers", "restate,temporal"]
    refused = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in ("temporal", *PEERS))


def test_percentiles() -> None:
    assert percentiles_s([number / 1000 for number in range(1, 101)]) == (0.05, 0.1)
    assert percentiles_s([0.3]) == (0.3, 0.3)


def test_the_counter_is_found_in_the_metrics() -> None:
    assert counter_in(f"# HELP {OUTPUTS} x\n# TYPE {OUTPUTS} counter\n{OUTPUTS} 1.2e+03\n") == 1_200
    assert counter_in("") == 0
