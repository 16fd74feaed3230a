"""Sends: what is sent with a delay starts in time, and stands in no queue before."""


import pytest

from tests.engine.harness import Rig
from tests.engine.sleepy import sleepy, texts


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_delayed_sends_are_in_time_and_before_nobody(disk_rig: Rig, restarted: bool) -> None:
    rig, app = disk_rig, sleepy()
    rig.start(app)
    ids = rig.call("sleepy/remind", 500)
    assert len(set(ids)) == 4
    rig.until(lambda: texts(rig) == ["now", "past"])
    if restarted:
        rig.restart(app)
    rig.later(501)
    rig.until(lambda: texts(rig) == ["now", "past", "later"])
    if restarted:
        rig.restart(app, crash=True)
    rig.later(500)
    rig.until(lambda: texts(rig) == ["now", "past", "later", "at"])
    rig.until(lambda: not [i for i in rig.invocations(app) if i.status not in ("completed", "failed")])
    assert not [i for i in rig.invocations(app) if i.target == "thing/note"], "a delayed start leaves nothing behind"


def test_a_delayed_send_queues_when_its_time_has_come(rig: Rig) -> None:
    """A delay runs before the queue: what came in meanwhile is served first, and the holder is never interrupted."""
    app = sleepy()
    rig.start(app)
    rig.call("sleepy/remind", 50)
    rig.until(lambda: texts(rig) == ["now", "past"])
    rig.ask("thing/hold", 70, key="k")
    rig.until(lambda: texts(rig)[2:] == ["hold"])
    rig.ask("thing/note", "queued", key="k")
    rig.later(51)
    rig.until(lambda: len([i for i in rig.invocations(app) if i.status == "inboxed"]) == 2)
    rig.later(20)
    rig.until(lambda: texts(rig)[3:] == ["held", "queued", "later"])
