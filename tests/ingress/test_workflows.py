"""Workflows over HTTP: the paths of one, and the approval of the typed programs from its first reminder to its end."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from odradek import App, Name, SharedContext, WorkflowContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.node.node import Node
from odradek_runtime.routing import workflow_id
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from collections.abc import Generator

    import pytest

    from tests.ingress.conftest import Site

PROGRAM = Path(__file__).parents[1] / "typing" / "programs" / "approval.py"
DAY_S = 0.4
word = Name("word", str)


def flows() -> App:
    app = App("flows", shards=3)
    flow = app.workflow("flow")
    hidden = app.workflow("hidden", public=False)

    @flow.run
    async def begin(ctx: WorkflowContext, who: str) -> str:
        heard = await ctx.promise(word)
        return f"{who} heard {heard}"

    @flow.shared
    async def tell(ctx: SharedContext, what: str) -> bool:
        return ctx.promise(word).resolve(what)

    @hidden.run
    async def inside(ctx: WorkflowContext) -> None: ...

    return app


@contextmanager
def serving(app: App, data_dir: Path) -> Generator[httpx.Client]:
    node = Node(app, replace(Settings(), port=0, admin_port=0, data_dir=data_dir, fsync=False))
    node.start()
    try:
        with httpx.Client(base_url=node.url, timeout=20, trust_env=False) as http:
            yield http
    finally:
        node.stop()


def test_the_paths_of_a_workflow(tmp_path: Path) -> None:
    id_ = workflow_id("flow", b"a/b")
    with serving(flows(), tmp_path) as http:
        assert http.get("/odradek/workflows/flow/a%2Fb/output").status_code == 404
        sent = http.post("/flow/a%2Fb/run/send", json="ann")
        assert (sent.status_code, sent.json()) == (202, {"invocationId": id_, "status": "Accepted"})
        again = http.post("/flow/a%2Fb/run/send", json="bob", headers={"idempotency-key": "other"})
        assert again.json() == {"invocationId": id_, "status": "PreviouslyAccepted"}
        for path in ("/odradek/workflows/flow/a%2Fb/output", "/flow/a%2Fb/run/output", f"/odradek/invocations/{id_}/output"):
            assert (http.get(path).status_code, http.get(path).json()) == (202, {"status": "running"})
    with serving(flows(), tmp_path) as http:  # another worker, on the same log
        assert http.post("/flow/a%2Fb/tell", json="yes").json() is True
        for path in ("/odradek/workflows/flow/a%2Fb/attach", "/flow/a%2Fb/run/attach", "/odradek/workflows/flow/a%2Fb/output"):
            assert http.get(path).json() == "ann heard yes"
        assert http.post("/flow/a%2Fb/run", json="eve").json() == "ann heard yes"
        assert http.post("/flow/a%2Fb/tell", json="no").json() is False
        for path in ("/odradek/workflows/flow/a%2Fb", "/odradek/workflows/flow/a/b/attach", "/odradek/workflows/flow"):
            assert http.get(path).status_code == 404
        for name in ("hidden", "flows", "none"):
            assert http.get(f"/odradek/workflows/{name}/k/attach").status_code == 404


def test_an_object_has_no_such_path(site: Site) -> None:
    reply = site.http.get("/odradek/workflows/customer/bob/attach")
    assert (reply.status_code, reply.json()["message"].partition(";")[0]) == (404, "'customer' has no handler 'run'")
    assert not site.worker.asked


def test_it_reminds_daily_and_expires_and_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = PROGRAM.read_text().replace("timedelta(days=1).total_seconds()", str(DAY_S))
    sending = "async def mail(to: str, text: str) -> None: ..."
    assert sending in source and str(DAY_S) in source
    source = source.replace(sending, f"{sending[:-4]}\n    mails.append(text)\n\nmails: list[str] = []")
    (tmp_path / "approval_in_short.py").write_text(source)
    module = __import__("approval_in_short")
    request = {"who": "bob", "amount": 10, "approver": "eve"}
    with serving(module.app, tmp_path / "data") as http:
        assert http.post("/approval/r1/run/send", json=request).status_code == 202
        until(lambda: http.post("/approval/r1/reminded").json() == 3)
    with serving(module.app, tmp_path / "data") as http:
        assert http.get("/odradek/workflows/approval/r1/attach").json() == "expired"
        assert len(module.mails) == 8, module.mails
        assert http.post("/approval/r2/run/send", json=request).status_code == 202
        until(lambda: http.post("/approval/r2/reminded").json() == 2)
        assert http.post("/approval/r2/decide", json=True).status_code == 200
        assert http.get("/odradek/workflows/approval/r2/attach").json() == "granted"
        assert http.post("/approval/r3/decide", json=False).status_code == 200
        assert http.post("/approval/r3/run", json=request).json() == "refused"
