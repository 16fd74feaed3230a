"""examples/approval.py: it asks, reminds, ends by a decision or without; killed between two reminders no mail is sent twice."""

from __future__ import annotations

import mailbox
from pathlib import Path

from tests.examples.running import example, until

DAY_S = 1.5
ACCEPTED = '{"invocationId":"inv_...","status":"Accepted"}'


def mails(folder: Path, to: str) -> list[str]:
    """Subjects of what the addressee sees: mail programs show one of those with the same Message-ID."""
    found = {str(mail["Message-ID"]): str(mail["Subject"]) for mail in mailbox.Maildir(folder / "mails") if mail["To"] == to}
    return sorted(found.values())


def test_it_reminds_over_a_kill_and_is_granted(tmp_path: Path) -> None:
    with example("approval", tmp_path, ACCEPTED, {"APPROVAL_DAY_S": str(DAY_S)}) as running:
        until(lambda: running.post("/approval/r1/status")["reminders"] == 1, "the first reminder")
        running.kill()
        until(lambda: running.post("/approval/r1/status")["reminders"] == 3, "the third reminder")
        assert running.post("/approval/r1/decide", {"granted": True, "by": "eve"}) is None
        assert running.http.get("/odradek/workflows/approval/r1/attach").json() == "granted by eve"
        again = running.http.post("/approval/r1/decide", json={"granted": False, "by": "max"})
        assert (again.status_code, "decided before" in again.json()["message"]) == (409, True)
        asked = mails(tmp_path, "eve@hr")
        assert asked[0] == "bob@hr wants 10: please decide"
        assert asked[1:] == [f"reminder {day} of 7: bob@hr wants 10" for day in range(1, len(asked))]
        assert len(asked) in (4, 5), "one more reminder may have been on its way"
        assert mails(tmp_path, "bob@hr") == ["your 10: granted by eve"]
        assert len(mailbox.Maildir(tmp_path / "mails")) <= len(asked) + 2, "one kill doubles one mail at most"


def test_nobody_decides(tmp_path: Path) -> None:
    with example("approval", tmp_path, ACCEPTED, {"APPROVAL_DAY_S": "0.2"}) as running:
        assert running.http.get("/odradek/workflows/approval/r1/attach").json() == "expired"
        assert len(mails(tmp_path, "eve@hr")) == 8
        assert mails(tmp_path, "bob@hr") == ["your 10: nobody has decided"]
        refused = running.http.post("/approval/r2/run", json={"who": "bob@hr", "amount": 0, "approver": "eve@hr"})
        assert (refused.status_code, refused.json()["message"]) == (422, "amount must be positive")
