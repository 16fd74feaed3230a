"""Awakeables over HTTP: what the public port makes of a value or an error, what it refuses, and the way through a whole node."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from odradek import App, Context, TerminalError
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records.awakeable_ids import AwakeableIds
from odradek_runtime.core.records.request import Failure, Reply, Settle
from odradek_runtime.node.node import Node
from odradek_runtime.routing import fresh_id
from tests.ingress.conftest import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ingress.conftest import Site

INVOCATION = fresh_id(b"k", b"twelve bytes")
ID = AwakeableIds("shop", []).of(INVOCATION, 3)
PATH = f"/odradek/awakeables/{ID}"


@pytest.fixture(autouse=True)
def settled(site: Site) -> None:
    site.worker.rule = lambda request: Reply("settled", request.invocation_id)


def asked(site: Site) -> Settle:
    last = site.worker.asked[-1]
    assert isinstance(last, Settle)
    return last


def test_a_value_is_given_as_it_is(site: Site) -> None:
    reply = site.http.post(f"{PATH}/resolve", content=b'{"a": 1}')
    assert (reply.status_code, reply.json()) == (200, {"invocationId": INVOCATION, "status": "Settled"})
    assert asked(site) == Settle(INVOCATION, 3, b"", b'{"a": 1}', None)
    site.worker.rule = lambda request: Reply("settled_before", request.invocation_id)
    assert site.http.post(f"{PATH}/resolve", content=b"\xff\x00").json()["status"] == "PreviouslySettled"
    assert asked(site).payload == b"\xff\x00"


@pytest.mark.parametrize(
    ("body", "kind", "failure"),
    [
        (b"the card has expired", "text/plain", Failure(500, "the card has expired")),
        (b'{"message": "no", "code": 409, "metadata": {"a": "b"}}', "application/json", Failure(409, "no", {"a": "b"})),
        (b'{"message": "no"}', "text/plain", Failure(500, "no")),
        (b"", "text/plain", Failure(500, "")),
    ],
)
def test_an_error_is_text_or_json(site: Site, body: bytes, kind: str, failure: Failure) -> None:
    assert site.http.post(f"{PATH}/reject", content=body, headers={"content-type": kind}).status_code == 200
    assert asked(site) == Settle(INVOCATION, 3, b"", None, failure)


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("/odradek/awakeables/awk_x/resolve", b"1", 400, "id: 'awk_x' is not the id of an awakeable"),
        (f"/odradek/awakeables/{INVOCATION}/resolve", b"1", 400, "is not the id of an awakeable"),
        (f"{PATH.replace('.shop', '.mall')}/resolve", b"1", 404, "is an awakeable of the app 'mall', and this is 'shop'"),
        (f"{PATH}/reject", b"{", 400, "$: "),
        (f"{PATH}/reject", b'{"message": 3}', 400, "$.message"),
        (f"{PATH}/reject", b'{"message": "no", "code": 200}', 400, "$.code: 200 is not between 400 and 599"),
        (f"{PATH}/resolve", b"x" * 10_001, 413, "max_record_bytes"),
    ],
)
def test_what_cannot_be_is_refused(site: Site, path: str, body: bytes, code: int, said: str) -> None:
    reply = site.http.post(path, content=body)
    assert (reply.status_code, reply.json()["code"]) == (code, code)
    assert said in reply.json()["message"]
    assert not site.worker.asked


def test_who_gives_a_value_that_nobody_waits_for_is_told(site: Site) -> None:
    site.worker.rule = lambda request: Reply("nobody_waits", request.invocation_id)
    reply = site.http.post(f"{PATH}/resolve", content=b"1")
    assert reply.status_code == 404
    assert reply.json()["message"].startswith("nobody waits for this awakeable")


def test_through_a_whole_node(tmp_path: Path) -> None:
    app, ids = App("pay", shards=4), list[str]()

    @app.handler
    async def wait(ctx: Context) -> str:
        hook = ctx.awakeable(str)
        await ctx.run(ids.append, hook.id, name="tell", returns=None)
        try:
            return await hook
        except TerminalError as error:
            raise TerminalError(f"heard {error.message}", code=error.code, metadata=error.metadata) from error

    settings = replace(Settings(), port=0, admin_port=0, data_dir=tmp_path, fsync=False, awakeable_secret="seal")  # noqa: S106
    node = Node(app, settings)
    node.start()
    try:
        with httpx.Client(base_url=node.url, timeout=20, trust_env=False) as http:
            sent = [http.post("/pay/wait/send").json()["invocationId"] for _ in range(2)]
            until(lambda: len(ids) == 2)
            assert http.post(f"/odradek/awakeables/{ids[0]}/resolve", content=b'"paid"').json()["status"] == "Settled"
            no = {"message": "no", "code": 402, "metadata": {"a": "b"}}
            rejected = http.post(f"/odradek/awakeables/{ids[1]}/reject", json=no)
            assert rejected.json()["status"] == "Settled"
            ended = [http.get(f"/odradek/invocations/{id_}/attach") for id_ in sent]
            assert min((each.status_code, each.text) for each in ended) == (200, '"paid"')
            failed = next(each for each in ended if each.status_code == 402).json()
            assert failed == {"code": 402, "message": "heard no", "metadata": {"a": "b"}}
            assert http.post(f"/odradek/awakeables/{ids[0]}/resolve", content=b'"more"').status_code == 404
    finally:
        node.stop()
