"""Headers with credentials reach neither a handler nor a topic; the setting adds to them, and takes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from odradek import App, Context
from odradek_runtime.configuration.settings import Settings, SettingsError
from odradek_runtime.configuration.withheld import Withheld
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.node.node import Node
from tests.ingress.conftest import until
from tests.records import committed

NOWHERE = Path("/nowhere/pyproject.toml")
CREDENTIALS = (
    *(
        "authorization",
        "proxy-authorization",
        "x-forwarded-authorization",
        "cookie",
        "set-cookie",
        "cookie2",
        "x-api-key",
        "api-key",
    ),
    *("apikey", "x-goog-api-key", "x-auth-token", "x-access-token", "x-forwarded-access-token", "x-amz-security-token"),
    *("private-token", "x-gitlab-token", "x-vault-token", "x-csrf-token", "x-xsrf-token", "x-amzn-oidc-accesstoken"),
    *("x-amzn-oidc-data", "x-ms-token-aad-id-token", "x-goog-iap-jwt-assertion", "cf-access-jwt-assertion", "x-client-secret"),
    *("x_api_key", "x-auth-key", "x-access-key", "x-functions-key", "ocp-apim-subscription-key"),
    *("x-telegram-bot-api-secret-token", "x-user-password", "x-credentials", "php-auth-passwd", "x-session-id"),
)
HARMLESS = (
    *("x-request-id", "traceparent", "tracestate", "x-hub-signature-256", "x-forwarded-for", "origin", "x-user", "etag"),
    "x-routing-key",
)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_withheld(name: str) -> None:
    assert Withheld()(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_others_are_not(name: str) -> None:
    assert not Withheld()(name)


def test_the_setting_adds_names_and_patterns_and_takes_out() -> None:
    withheld = Withheld(" X-Tenant-*, x-exact ,!x-csrf-token,!authorization, a.b")
    asked = ("x-tenant-", "x-tenant-id", "x-exact", "x-exactly", "x-csrf-token", "x-vault-token", "authorization", "a.b", "axb")
    assert [name for name in asked if withheld(name)] == [
        "x-tenant-",
        "x-tenant-id",
        "x-exact",
        "x-vault-token",
        "authorization",
        "a.b",
    ]
    assert Withheld("*")("anything")


@pytest.mark.parametrize("asked", ["x tenant", "x:y", "(", "é", "!", "a,b c"])
def test_what_names_no_header_ends_the_start(asked: str) -> None:
    with pytest.raises(SettingsError, match=r"setting headers_withheld: .* names no header"):
        Settings.load({}, env={"ODRADEK_HEADERS_WITHHELD": asked}, project=NOWHERE)


def contents(name: str, settings: Settings) -> Iterator[bytes]:
    """All that the app's commands and journal have held."""
    with closing(open_log(settings)) as log:
        for topic in ("commands", "journal"):
            for message in committed(log, f"{name}.{topic}"):
                yield (message.key() or b"") + (message.value() or b"")


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_nothing_of_them_is_journaled(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path, where: str) -> None:
    servers: str = request.getfixturevalue("kafka") if where == "kafka" else ""
    settings = replace(
        Settings(), bootstrap_servers=servers, data_dir=tmp_path, port=0, admin_port=0, headers_withheld="x-tenant-*"
    )
    app = App(topic_prefix, shards=2)

    @app.handler
    async def headers(ctx: Context) -> dict[str, str]:
        await ctx.sleep(0.01)
        return dict(ctx.headers)

    sent = {name: f"hunter2-{name}" for name in (*CREDENTIALS, "x-tenant-key")} | {"x-request-id": "seen-17"}
    node = Node(app, settings)
    node.start()
    try:
        until(lambda: node.worker.ready)
        got = httpx.post(f"{node.url}/{topic_prefix}/headers", headers=sent, timeout=60, trust_env=False).json()
        late = httpx.post(f"{node.url}/{topic_prefix}/headers/send?delay=1h", headers=sent, timeout=60, trust_env=False)
        assert late.status_code == 202
    finally:
        node.stop()
    assert got == {"x-request-id": "seen-17"}
    held = b"".join(contents(topic_prefix, settings))
    assert b"seen-17" in held
    assert b"hunter2" not in held
