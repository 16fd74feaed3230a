"""examples/ratelimit.py: calls of one customer are 200 ms apart or more, over a kill, and each is made once."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.examples.running import Running, example, until

HERE = {"CRM_URL": "http://localhost:8080/crm", "NO_PROXY": "localhost"}


def calls(running: Running, who: str) -> list[datetime]:
    return [datetime.fromisoformat(at) for at in running.post(f"/crm/{who}/calls")]


def test_they_are_apart_and_once_over_a_kill(tmp_path: Path) -> None:
    with example("ratelimit", tmp_path, '{"taken":4,"refused":1}', HERE) as running:
        body = {"cid": [f"c{n}" for n in range(20)], "dan": ["d0"]}
        sent = running.http.post("/sync/contacts/send", json=body, headers={"idempotency-key": "k"})
        assert sent.status_code == 202
        until(lambda: len(calls(running, "cid")) >= 5, "some calls")
        running.kill()
        done = running.http.get("/sync/contacts/attach", headers={"idempotency-key": "k"})
        assert done.json() == {"taken": 21, "refused": 0}
        at = calls(running, "cid")
        assert len(at) == 20
        assert min((b - a).total_seconds() for a, b in pairwise(at)) >= 0.2
        assert calls(running, "dan")[0] < at[5], "no customer waits for another"
