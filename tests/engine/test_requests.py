"""Requests: one that waits, one that does not, one that is sent again; and what is known of each afterwards."""

import os

from odradek_runtime.core.records.request import Invoke
from odradek_runtime.routing import fresh_id
from tests.engine.harness import Rig
from tests.engine.sums import arithmetic


def test_a_request_with_an_idempotency_key_is_answered_from_what_is_stored(disk_rig: Rig) -> None:
    rig, app = disk_rig, arithmetic()
    rig.start(app)
    first = rig.ask("cell/add", 7, key="k", idempotency_key="once")
    assert first.value() == 7
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once").value() == 7
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once", wait=False).reply().status == "previously_accepted"
    rig.restart(app, crash=True)
    again = rig.ask("cell/add", 7, key="k", idempotency_key="once")
    assert (again.value(), again.id) == (7, first.id)
    failed = [rig.ask("cell/refuse", key="k", idempotency_key="no").reply().failure for _ in range(2)]
    assert failed[0] == failed[1] is not None
    rig.later(86_401)
    rig.until(lambda: not rig.invocations(app))
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once").value() == 14, "forgotten after a day"


def test_one_way_requests_attach_and_look(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    sent = rig.ask("cell/add", 3, key="k", wait=False)
    assert sent.reply().status == "accepted"
    assert rig.attach(sent.id).value() == 3
    assert rig.attach(sent.id, wait=False).value() == 3
    absent = fresh_id(b"k", os.urandom(12))
    assert rig.attach(absent).reply().status == "not_found"
    twice = Invoke(fresh_id(b"k", os.urandom(12)), "cell/add", b"k", b"4", {}, wait=True)
    assert [rig.post(twice).value() for _ in range(2)] == [7, 7], "the same request sent twice is the same invocation"
