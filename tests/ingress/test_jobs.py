"""Verifications and rebuilds over the admin port: who may ask, what is refused, and whose shard it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from odradek_runtime.http.admin import jobs
from odradek_runtime.http.admin.jobs import PRIVATE_PATH
from odradek_runtime.log.port import Peer
from odradek_runtime.worker.upkeep.jobs import Findings, Job, Kind
from odradek_runtime.worker.upkeep.upkeep import NotHere, UpkeepRefused
from tests.ingress.conftest import TOKEN, Site
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from odradek_runtime.worker.upkeep.upkeep import Upkeep

SHOWN = {"authorization": f"Bearer {TOKEN}"}


class ScriptedUpkeep:
    """Does what it is asked at once, for the shards that its engine owns."""

    def __init__(self, worker: ScriptedWorker) -> None:
        self._worker = worker
        self.jobs: dict[str, Job] = {}
        self.refusal = ""

    def verify(self, number: int, asked_by: str) -> Job:
        return self._take("verify", number, asked_by)

    def rebuild(self, number: int, asked_by: str) -> Job:
        if self.refusal:
            raise UpkeepRefused(self.refusal)
        return self._take("rebuild", number, asked_by)

    def find(self, id_: str) -> Job | None:
        return self.jobs.get(id_)

    def _take(self, kind: Kind, number: int, asked_by: str) -> Job:
        if number not in self._worker.owned:
            raise NotHere
        job = Job(f"{kind}-{number}-{len(self.jobs):012x}", kind, number, asked_by, "ended")
        if kind == "verify":
            job.findings = Findings(7, 9, keys=3)
        self.jobs[job.id] = job
        return job


def with_upkeep(site: Site) -> ScriptedUpkeep:
    made = ScriptedUpkeep(site.worker)
    upkeep: Any = made
    stands_in: Upkeep = upkeep
    site.worker.upkeep = stands_in
    return made


def test_the_token_is_asked_for(site: Site) -> None:
    with_upkeep(site)
    for method, path in [("POST", "/verifications"), ("GET", "/verifications/x"), ("POST", "/rebuilds"), ("GET", "/rebuilds/x")]:
        assert site.admin.request(method, path).status_code == 401
    assert site.admin.get(PRIVATE_PATH + "/x").status_code == 404, "that is for peers, at another port"


def test_one_request_covers_all_shards_and_each_can_be_asked_for(site: Site) -> None:
    with_upkeep(site)
    begun = site.admin.post("/verifications", json={"asked_by": "ada@desk"}, headers=SHOWN).json()["verifications"]
    assert [(job["shard"], job["kind"], job["asked_by"]) for job in begun] == [(n, "verify", "ada@desk") for n in range(4)]
    told = site.admin.get(f"/verifications/{begun[2]['id']}", headers=SHOWN).json()
    assert (told["status"], told["findings"]["keys"], told["findings"]["shown"]) == ("ended", 3, [])
    two = site.admin.post("/verifications", json={"shards": [3, 1, 3]}, headers=SHOWN).json()["verifications"]
    assert [job["shard"] for job in two] == [3, 1]
    assert two[0]["asked_by"] == "127.0.0.1", "who does not say who he is is told by his address"
    rebuilt = site.admin.post("/rebuilds", json={"shard": 2}, headers=SHOWN).json()
    assert site.admin.get(f"/rebuilds/{rebuilt['id']}", headers=SHOWN).json()["kind"] == "rebuild"
    assert site.admin.get(f"/verifications/{rebuilt['id']}", headers=SHOWN).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/verifications", {"shards": [4]}, "$.shards"),
        ("/verifications", {"shards": [-1]}, "$.shards"),
        ("/verifications", {"shards": "all"}, "body"),
        ("/verifications", {"asked_by": "two\nlines"}, "$.asked_by"),
        ("/rebuilds", {"shard": 9}, "$.shard"),
        ("/rebuilds", {}, "body"),
    ],
)
def test_what_makes_no_sense_names_its_field(site: Site, path: str, body: dict[str, Any], field: str) -> None:
    with_upkeep(site)
    reply = site.admin.post(path, json=body, headers=SHOWN)
    assert (reply.status_code, reply.json()["metadata"]) == (400, {"field": field})


def test_what_is_not_there_yet_or_any_more_says_so(site: Site) -> None:
    reply = site.admin.post("/verifications", json={}, headers=SHOWN)
    assert (reply.status_code, reply.json()["message"]) == (503, "the worker has not started yet")
    upkeep = with_upkeep(site)
    for id_ in ("verify-1-0000000000ff", "verify-77777777777-0000000000ff", "x"):
        assert site.admin.get(f"/verifications/{id_}", headers=SHOWN).status_code == 404
    upkeep.refusal = "Free some room"
    reply = site.admin.post("/rebuilds", json={"shard": 1}, headers=SHOWN)
    assert (reply.status_code, reply.json()["message"]) == (409, "Free some room")


def test_a_shard_of_another_worker_is_its_business(
    open_site: Callable[[ScriptedWorker], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (open_site(ScriptedWorker(owned=owned)) for owned in ([0, 1], [2]))
    _, others = with_upkeep(here), with_upkeep(there)
    here.log.members = [Peer(here.at.private_url, (0, 1)), Peer(there.at.private_url, (2,))]
    job = here.admin.post("/verifications", json={"shards": [2], "asked_by": "ada@desk"}, headers=SHOWN).json()["verifications"][0]
    assert others.jobs[job["id"]].asked_by == "ada@desk"
    assert here.admin.get(f"/verifications/{job['id']}", headers=SHOWN).json() == job
    others.refusal = "it is being restored"
    refused = here.admin.post("/rebuilds", json={"shard": 2}, headers=SHOWN)
    assert (refused.status_code, refused.json()["message"]) == (409, "it is being restored")
    others.jobs.clear()
    gone = here.admin.get(f"/verifications/{job['id']}", headers=SHOWN)
    assert gone.status_code == 404
    assert "it has moved meanwhile" in gone.json()["message"]

    monkeypatch.setattr(jobs, "MOVES_S", 0.3)
    nobody = here.admin.post("/verifications", json={"shards": [3]}, headers=SHOWN)
    assert (nobody.status_code, nobody.headers["retry-after"]) == (503, "1")
    assert "no worker has shard 3 now" in nobody.json()["message"]
