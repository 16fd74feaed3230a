"""The rounds: in each, every kind of work with every contender in turn, each time another one first.

So a machine that changes its pace does so for all. Who fails twice is left out of that work from then on; each failure is
told at the end.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from bench.contenders import Run
from bench.waits.events import Events
from bench.waits.figure import Figure, Scenario
from bench.waits.odradek import data_dir
from bench.waits.paced_records import measure_paced
from bench.waits.records_in_flight import measure_in_flight
from bench.waits.requests import measure_requests
from bench.waits.site import Contender, Work
from bench.workload import create_topic, delete_topics_of

FAILURES = 2
"""After so many a contender is not tried again: once may have been the machine."""
PEERS_COMMIT_INTERVAL_S = 0.1
"""Kafka Streams' default with exactly_once_v2."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long each measurement takes."""

    seconds: float
    warm_up_s: float
    paced_s: float
    in_flight_s: float
    events: int
    events_limit_s: float


@dataclass(frozen=True, slots=True)
class Rounds:
    """What all rounds have in common."""

    bootstrap_servers: str
    directory: Path
    contenders: list[Contender]
    scenarios: list[Scenario]
    lengths: Lengths
    backlogs: dict[str, Events]
    """By scenario."""

    def run(self, rounds: int, say: Callable[[str], None], step: Callable[[], None]) -> tuple[list[Figure], list[str]]:
        """All rounds.

        Args:
            rounds: how many.
            say: told what is about to be measured.
            step: called after each contender's turn.

        Returns:
            The figures, and what failed. Ctrl-C or SIGTERM ends it with what there is by then.
        """
        figures: list[Figure] = []
        failures: dict[tuple[str, Work], list[str]] = {}
        turns = [(number, *turn) for number in range(1, rounds + 1) for turn in self.turns(number)]
        for number, work, contender in turns:
            failed_before = failures.setdefault((contender.name, work), [])
            if len(failed_before) < FAILURES:
                say(f"round {number}: {contender.title}, {work.value}")
                try:
                    figures += self._turn(contender, work, number, say)
                except (RuntimeError, KafkaException) as failed:
                    failed_before.append(f"{contender.title}, {work.value}, round {number}: {failed}")
                except (KeyboardInterrupt, SystemExit):
                    failed_before.append(f"stopped in round {number}, at {contender.title}, {work.value}")
                    break
            step()
        return figures, [failure for each in failures.values() for failure in each]

    def turns(self, number: int) -> list[tuple[Work, Contender]]:
        """Who is measured in a round, in order."""
        turns: list[tuple[Work, Contender]] = []
        for work in Work:
            if any(scenario.work is work for scenario in self.scenarios):
                able = [contender for contender in self.contenders if work in contender.works]
                first = (number - 1) % max(len(able), 1)
                turns += [(work, contender) for contender in able[first:] + able[:first]]
        return turns

    def _turn(self, contender: Contender, work: Work, number: int, say: Callable[[str], None]) -> list[Figure]:
        scenarios = [scenario for scenario in self.scenarios if scenario.work is work]
        if work is Work.EVENTS:
            return [self._backlog(contender, self.backlogs[scenario.name], number) for scenario in scenarios]
        run = self._fresh_run(contender)
        try:
            if work is Work.HTTP:
                return self._requests(contender, run, scenarios, number, say)
            create_topic(self.bootstrap_servers, run.input)
            create_topic(self.bootstrap_servers, run.output)
            with contender.serving(run, work) as site:
                if work is Work.PACED:
                    return measure_paced(site, run, contender.name, scenarios, number, self.lengths.paced_s)
                lengths = self.lengths
                return measure_in_flight(site, run, contender, scenarios, number, lengths.in_flight_s, lengths.warm_up_s)
        finally:
            delete_topics_of(self.bootstrap_servers, run.id)

    def _requests(
        self, contender: Contender, run: Run, scenarios: list[Scenario], number: int, say: Callable[[str], None]
    ) -> list[Figure]:
        figures: list[Figure] = []
        with contender.serving(run, Work.HTTP) as site:
            for scenario in scenarios:
                say(f"round {number}: {contender.title}, {scenario.title}")
                seconds, warm_up_s = self.lengths.seconds, self.lengths.warm_up_s
                figures.append(measure_requests(site, contender.name, scenario, number, seconds, warm_up_s))
        return figures

    def _backlog(self, contender: Contender, events: Events, number: int) -> Figure:
        run = self._fresh_run(contender, events.workload.topic)
        try:
            if contender.own_log:
                return self._embedded(contender, run, events, number)
            create_topic(self.bootstrap_servers, run.output)
            with contender.serving(run, Work.EVENTS) as site:
                return events.on_kafka(site, run, contender.name, number, counted=contender.counted)
        finally:
            delete_topics_of(self.bootstrap_servers, run.id)

    def _embedded(self, contender: Contender, run: Run, events: Events, number: int) -> Figure:
        events.fill_embedded(data_dir(run), run)
        with contender.serving(run, Work.EVENTS) as site:
            figure = events.embedded(site, contender.name, number)
        events.audit_embedded(data_dir(run), run.output)
        return figure

    def _fresh_run(self, contender: Contender, topic: str = "") -> Run:
        run_id = f"bench-{contender.name}-{time.time_ns():x}"
        directory = self.directory / run_id
        directory.mkdir(parents=True)
        return Run(run_id, self.bootstrap_servers, topic or f"{run_id}-input", directory, PEERS_COMMIT_INTERVAL_S)
