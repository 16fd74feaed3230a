"""Sleeps: they outlive the worker, and end on time."""


import pytest

from tests.engine.harness import Rig
from tests.engine.sleepy import sleepy


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_sleeps_outlive_the_worker_and_end_on_time(disk_rig: Rig, crash: bool) -> None:
    rig, app = disk_rig, sleepy()
    rig.start(app)
    short, long = rig.ask("sleepy/nap", 100), rig.ask("sleepy/nap", 7200)
    rig.until(lambda: len([i for i in rig.invocations(app) if i.status == "running"]) == 2)
    rig.restart(app, crash=crash)
    short, long = rig.attach(short.id), rig.attach(long.id)
    rig.later(99)
    assert rig.call("sleepy/nap", 0) < 1
    assert short.replies == []
    rig.later(1)
    assert 99.9 < short.value() < 110
    rig.restart(app, crash=crash)
    long = rig.attach(long.id)
    rig.later(7100)
    assert 7199.9 < long.value() < 7215
    assert not [k for k in rig.journal(app) if k[:1] == b"j" or (k[:1] == b"t" and k[-4:] < b"\x80")]


def test_a_sleep_that_ended_while_nobody_was_there_ends_at_the_start(disk_rig: Rig) -> None:
    rig, app = disk_rig, sleepy()
    rig.start(app)
    asked = rig.ask("sleepy/nap", 3600)
    rig.until(lambda: rig.invocations(app))
    rig.stop()
    rig.later(4000)
    rig.start(app)
    assert rig.attach(asked.id).value() > 3999
