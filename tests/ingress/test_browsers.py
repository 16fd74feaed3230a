"""What a browser sends for a page, byte by byte as Chromium 156 did (tests/browser has the browser itself), and names of a port."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest

from odradek_runtime.configuration.settings import Settings, SettingsError
from odradek_runtime.core.records.request import Invoke
from odradek_runtime.http.ingress.names import Names
from odradek_runtime.http.ingress.sockets import listen
from tests.ingress.conftest import running
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.ingress.conftest import Site

PAGE = "http://page.example:43521"
APP = "https://app.example"
FROM_ELSEWHERE = {"origin": PAGE, "sec-fetch-site": "cross-site", "referer": PAGE + "/"}
FETCH = {**FROM_ELSEWHERE, "content-type": "text/plain", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "empty"}
IMAGE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image", "referer": PAGE + "/"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "referer": PAGE + "/"}
WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "origin": PAGE,
    "sec-websocket-version": "13",
    "sec-websocket-key": "Kd6S/Uy6aqxVgJZx2Pe30Q==",
}
SENT = {
    "fetch, no-cors": ("POST", FETCH),
    "fetch, cors": ("POST", {**FETCH, "sec-fetch-mode": "cors"}),
    "fetch, another port": ("POST", {**FETCH, "origin": "http://localhost:3000", "sec-fetch-site": "same-site"}),
    "fetch, without sec-fetch-site": ("POST", {"origin": PAGE, "content-type": "text/plain"}),
    "fetch in a sandbox": ("POST", {"origin": "null", "content-type": "text/plain"}),
    "a form": ("POST", {**FETCH, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe", "upgrade-insecure-requests": "1"}),
    "a beacon": ("POST", {**FETCH, "sec-fetch-storage-access": "none"}),
    "a preflight": ("OPTIONS", {**FROM_ELSEWHERE, "access-control-request-method": "POST", "sec-fetch-mode": "cors"}),
    "an image": ("GET", IMAGE),
    "a frame": ("GET", {**LINK, "sec-fetch-dest": "iframe"}),
    "a link": ("GET", LINK),
    "a web socket": ("GET", WEBSOCKET),
}
PORTS = ["url", "admin_url", "private_url"]


@pytest.fixture
def start() -> Generator[Callable[..., Site]]:
    """A front with the settings that a test wants, and no other."""
    with ExitStack() as stack:
        yield lambda **other: stack.enter_context(running(ScriptedWorker(), **{"http_hosts": (), **other}))


@pytest.fixture(scope="module")
def shared_plain() -> Generator[Site]:
    with running(ScriptedWorker(), http_hosts=()) as site:
        yield site


@pytest.fixture
def plain(shared_plain: Site) -> Site:
    """A front on loopback with no such settings."""
    shared_plain.worker.reset()
    return shared_plain


def ask(url: str, method: str, path: str, headers: dict[str, str], host: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to such a request; `host` instead of the URL's."""
    at = urlsplit(url)
    given = {"host": host or at.netloc, "connection": "close", "content-length": "3" if method == "POST" else "0", **headers}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in given.items()) + "\r\n"
    with socket.create_connection((at.hostname or "", at.port or 0), 30) as connection:
        connection.sendall(head.encode("latin-1") + (b'"x"' if method == "POST" else b""))
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, {name.lower(): value.lower() for name, value in answer.getheaders()}, answer.read()


def refused(answer: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    """The body of a 403 that no page may read."""
    status, headers, body = answer
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]
    said: dict[str, Any] = msgspec.json.decode(body)
    assert said["code"] == 403
    return said


@pytest.mark.parametrize("which", PORTS)
@pytest.mark.parametrize(("method", "headers"), SENT.values(), ids=list(SENT))
def test_what_a_page_of_another_origin_sends_starts_nothing(plain: Site, which: str, method: str, headers: dict[str, str]) -> None:
    path = {"url": "/shop/ping", "admin_url": "/topics", "private_url": "/odradek/private/ask"}[which]
    said = refused(ask(getattr(plain.at, which), method, path, headers))
    if which == "url":
        assert headers.get("origin", "a page of another site") in said["message"]
        assert said["metadata"] == ({"setting": "http_cors_origins"} if "origin" in headers else {})
        assert b'odradek_http_refused_total{reason="origin"} 0.0' not in plain.admin.get("/metrics").content
    else:
        assert said["metadata"] == {}
    assert not plain.worker.asked


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104 - what is meant
def test_so_it_is_on_every_address(start: Callable[..., Site], host: str) -> None:
    site = start(host=host)
    refused(ask(site.at.url, "POST", "/shop/raw", FETCH))
    refused(ask(site.at.url, "POST", "/shop/raw", {"origin": PAGE}, host="" if host == "127.0.0.1" else "worker.example"))
    assert not site.worker.asked


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "same-origin", "origin": "http://localhost:1"},
        {"sec-fetch-mode": "cors"},
        {"origin": "https://a.localhost", "x-forwarded-host": "a.localhost, proxy"},
        {"origin": "http://b.localhost:8080"},
    ],
    ids=["no browser", "typed", "own page", "a client that writes only this", "own page through a proxy", "own page, old browser"],
)
def test_what_no_other_page_sent_is_served(plain: Site, headers: dict[str, str]) -> None:
    assert ask(plain.at.url, "POST", "/shop/raw", headers, host="b.localhost:8080")[0] == 200


@pytest.mark.parametrize(("which", "path"), [("url", "/odradek/health"), ("admin_url", "/health"), ("admin_url", "/metrics")])
def test_a_link_to_what_may_be_looked_at(plain: Site, which: str, path: str) -> None:
    assert ask(getattr(plain.at, which), "GET", path, LINK)[0] == 200
    refused(ask(getattr(plain.at, which), "GET", path, {**LINK, "sec-fetch-dest": "iframe"}))
    refused(ask(getattr(plain.at, which), "GET", path, IMAGE))


def test_what_a_page_sends_is_seen_without_a_host_too(plain: Site) -> None:
    """As a proxy may pass it on, in HTTP/1.0."""
    at = urlsplit(plain.at.url)
    for header in (f"origin: {PAGE}", "sec-fetch-site: cross-site"):
        with socket.create_connection((at.hostname or "", at.port or 0), 30) as connection:
            connection.sendall(f"POST /shop/ping HTTP/1.0\r\n{header}\r\ncontent-length: 0\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
    assert not plain.worker.asked


# --- pages that may ---


def test_a_page_of_an_allowed_origin(start: Callable[..., Site]) -> None:
    site = start(http_cors_origins=(APP,))
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,idempotency-key"}
    allowed = {**FETCH, "origin": APP, "sec-fetch-mode": "cors"}
    status, headers, _ = ask(
        site.at.url, "OPTIONS", "/shop/raw", {**allowed, **asked, "access-control-request-private-network": "true"}
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-allow-headers"] == "content-type,idempotency-key"
    assert "post" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-private-network"] == "true"
    assert "origin" in headers["vary"]
    assert not site.worker.asked
    for path, wanted in (("/shop/raw", 200), ("/shop/nothing", 404)):
        status, headers, _ = ask(site.at.url, "POST", path, allowed)
        assert (status, headers["access-control-allow-origin"], headers["vary"]) == (wanted, APP, "origin")
        assert "access-control-allow-credentials" not in headers
        assert "x-odradek-id" in headers["access-control-expose-headers"]
    assert [request.payload for request in site.worker.asked if isinstance(request, Invoke)] == [b'"x"']


def test_a_preflight_for_a_method_that_there_is_not(start: Callable[..., Site]) -> None:
    site = start(http_cors_origins=(APP,))
    status, headers, body = ask(site.at.url, "OPTIONS", "/shop/raw", {"origin": APP, "access-control-request-method": "FOO"})
    assert (status, headers["content-type"], headers["access-control-allow-origin"]) == (400, "application/json", APP)
    assert msgspec.json.decode(body) == {"code": 400, "message": "Disallowed CORS method", "metadata": {}}


@pytest.mark.parametrize("origin", ["http://app.example", "https://app.example:8443", "https://app.example.evil", "null", "*", ""])
def test_a_page_of_nearly_an_allowed_origin(start: Callable[..., Site], origin: str) -> None:
    site = start(http_cors_origins=(APP,))
    for method in ("POST", "OPTIONS"):
        refused(ask(site.at.url, method, "/shop/raw", {**FETCH, "origin": origin, "access-control-request-method": "POST"}))


def test_an_allowed_origin_is_for_the_public_port(start: Callable[..., Site]) -> None:
    site = start(http_cors_origins=(APP,))
    for url, path in ((site.at.admin_url, "/metrics"), (site.at.private_url, "/odradek/private/ready")):
        assert (
            "this port answers none" in refused(ask(url, "GET", path, {"origin": APP, "sec-fetch-site": "cross-site"}))["message"]
        )


# --- what a port is called ---


@pytest.mark.parametrize("which", PORTS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "[::2]", "a b", "\xff"],
)
def test_a_name_that_a_page_gave_to_this_machine(plain: Site, which: str, host: str) -> None:
    """DNS rebinding: for the browser the page and the worker are one origin."""
    own = {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for method, headers in (("POST", {}), ("POST", own), ("GET", {})):
        said = refused(ask(getattr(plain.at, which), method, "/health", headers, host=host))
        assert said["metadata"] == {"setting": "http_hosts"}
    assert not plain.worker.asked


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "shop.localhost:8080", "127.0.0.1", "127.9.9.9:8080", "[::1]:8080"])
def test_names_of_loopback(plain: Site, host: str) -> None:
    for which, path in (("url", "/odradek/health"), ("admin_url", "/health"), ("private_url", "/odradek/private/ready")):
        assert ask(getattr(plain.at, which), "GET", path, plain.shown, host=host)[0] == 200


def test_names_that_were_given(start: Callable[..., Site]) -> None:
    site = start(http_hosts=("shop.example", "*.svc"))
    for host in ("shop.example:443", "w-0.workers.svc", "localhost"):
        assert ask(site.at.url, "POST", "/shop/raw", {}, host=host)[0] == 200
    refused(ask(site.at.url, "POST", "/shop/raw", {}, host="www.shop.example"))


def test_elsewhere_than_on_loopback_names_count_where_they_are_given(start: Callable[..., Site]) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - what is meant
    site = start(host=everywhere, admin_host=everywhere)
    assert ask(site.at.url, "POST", "/shop/raw", {}, host="any.example")[0] == 200
    assert ask(site.at.admin_url, "GET", "/health", {}, host="any.example")[0] == 200
    site = start(host=everywhere, admin_host=everywhere, http_hosts=("shop.example",), advertised_url="http://w-0.svc:1")
    for host, status in (("shop.example", 200), ("10.244.0.7:8080", 200), ("localhost", 200), ("evil.example", 403)):
        assert ask(site.at.url, "POST", "/shop/raw", {}, host=host)[0] == status
        assert ask(site.at.admin_url, "GET", "/health", {}, host=host)[0] == status
    port = urlsplit(site.at.admin_url).port
    assert site.at.private is not None
    private = f"http://127.0.0.1:{site.at.private.getsockname()[1]}"
    assert port is not None
    assert ask(private, "GET", "/odradek/private/ready", site.shown, host="w-0.svc:1")[0] == 200
    assert ask(private, "GET", "/odradek/private/ready", site.shown, host="w-1.svc:1")[0] == 403


def test_a_host_that_is_a_name_for_loopback() -> None:
    """Debian's /etc/hosts gives a machine's own name the address 127.0.1.1."""
    sock = listen("127.0.1.1", 0, what="test")
    with sock:
        names = Names.of(sock, ["devbox"], [])
    assert names.has(b"devbox:8080")
    assert not names.has(b"evil.example")


# --- settings ---


def test_lists_are_written_with_commas_or_as_lists(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.odradek]\nhttp_hosts = ["Shop.example", "*.svc", "fd00::7"]\n')
    env = {"ODRADEK_HTTP_CORS_ORIGINS": "https://App.example:443/, http://localhost:3000,"}
    settings = Settings.load(env=env, project=project)
    assert settings.http_hosts == ("shop.example", "*.svc", "fd00::7")
    assert settings.http_cors_origins == ("https://app.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_cors_origins", "*"),
        ("http_cors_origins", "null"),
        ("http_cors_origins", "https://*.example"),
        ("http_cors_origins", "app.example"),
        ("http_cors_origins", "https://app.example/shop"),
        ("http_hosts", "*"),
        ("http_hosts", "app.example:80"),
        ("http_hosts", "10.0.0.7:80"),
        ("http_hosts", "http://app.example"),
        ("http_hosts", 5),
    ],
)
def test_what_is_no_origin_and_no_host(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"setting {name}: "):
        Settings.load({name: value}, env={})
