"""What a topic takes, as far as it is known: what cannot be looked up refuses nothing, what was seen keeps its limit."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.port import Log, LogError, Refusal, TopicInfo
from tests.engine.harness import Rig


def test_the_default_takes_what_an_input_may_hold() -> None:
    assert Settings().max_record_bytes >= 8_000_000


def test_a_topic_that_cannot_be_looked_up_refuses_nothing(rig: Rig) -> None:
    """What is too large is not known then: a record must not lose its value for a question that was not answered."""
    known = TopicInfo("t", "", 1, {"max.message.bytes": "5000"})
    answers: list[TopicInfo | LogError] = [LogError("not now"), known, LogError("not now")]

    class Moody:
        def topic(self, name: str) -> TopicInfo:
            answer = answers.pop(0)
            if isinstance(answer, LogError):
                raise answer
            return answer

    targets = Targets(cast("Log", Moody()), max_record_bytes=8_000_000)
    assert targets.limit("t", 0.0, 7_000_000) > 7_000_000
    assert targets.limit("t", 2_000.0, 7_000_000) == 5_000
    assert targets.limit("t", 4_000.0, 7_000_000) == 5_000, "as far as it is known"


def test_a_topic_that_was_seen_keeps_its_limit_while_nobody_may_write_to_it(rig: Rig) -> None:
    rig.log.create_topic("letters", 1, {"max.message.bytes": "5000"})
    asked = rig.log.topic

    class Denied:
        rights = True

        def topic(self, name: str) -> TopicInfo | None:
            info = asked(name)
            return info if self.rights or info is None else replace(info, writable=False)

        def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
            return rig.log.create_topic(name, partitions, config)

    log = Denied()
    targets = Targets(cast("Log", log), max_record_bytes=8_000_000, letters=["letters"])
    assert targets.limit("letters", 0.0) == 5_000
    log.rights = False
    targets.refused(Refusal("letters", "Write", "denied"), 0.0)
    assert targets.limit("letters", 1.0) == 5_000, "while it is left alone"
    assert targets.limit("letters", 60_000.0) == 5_000, "and when it was looked at"
    rig.log.delete_topic("letters")
    targets.renew_letters(1)
    made = asked("letters")
    assert made is not None
    assert made.config["max.message.bytes"] == "5000", "made again, it takes what it took"
