"""A page of another site, one that has given its name our address, and one that may: each in a real Chromium.

The page tries, says what came of it, and the worker's engine tells what arrived. `tests/ingress/test_browsers.py` has the same by
bytes, for machines without a browser.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from odradek_runtime.core.records.request import Invoke
from tests.ingress.conftest import running
from tests.ingress.scripted import ScriptedWorker

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.ingress.conftest import Site

pytestmark = pytest.mark.browser

PATIENCE_S = 120


class Pages:
    """A site of somebody else's: it has one page, and takes what the page says."""

    def __init__(self) -> None:
        said, told, self._html = dict[str, object](), threading.Event(), b""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(site._html if self.path == "/" else b"")

            def do_POST(self) -> None:
                said.update(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                told.set()
                self._answer(b"")

            def log_message(self, format: str, *args: object) -> None: ...

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._said, self._told = said, told
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def origin(self) -> str:
        """As the browser writes it, under another site's name."""
        return f"http://page.example:{self.port}"

    def show(self, page: str, site: Site, called: str) -> None:
        """The page, which knows the worker's three ports as T, A and P."""
        ports = {
            name: urlsplit(url).port for name, url in (("T", site.at.url), ("A", site.at.admin_url), ("P", site.at.private_url))
        }
        consts = "".join(f"const {name} = 'http://{called}:{port}';" for name, port in ports.items())
        html, tried = (Path(__file__).with_name(name).read_text() for name in (page, "tried.js"))
        self._html = html.replace("<script>", f"<script>{consts}\n{tried}", 1).encode()

    def said(self) -> dict[str, object]:
        """What the page said, when it has."""
        assert self._told.wait(PATIENCE_S), "the page said nothing"
        return self._said

    def close(self) -> None:
        """End the site."""
        self._server.shutdown()
        self._server.server_close()


def browser(profile: Path) -> list[str]:
    """The command of a browser with nothing in it, for which every name below .example is this machine."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium on this machine: apt-get install chromium"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    return [program, *flags, "--host-resolver-rules=MAP *.example 127.0.0.1"]


@contextmanager
def opened(url: str, profile: Path) -> Generator[None]:
    """A page, while this lasts."""
    process = subprocess.Popen([*browser(profile), url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def pages() -> Generator[Pages]:
    """A site for a test's page."""
    site = Pages()
    yield site
    site.close()


def payloads(site: Site) -> list[bytes]:
    return [request.payload for request in site.worker.asked if isinstance(request, Invoke)]


@pytest.mark.parametrize("host", ["page.example", "localhost"], ids=["another site", "another port of this machine"])
@pytest.mark.parametrize("called", ["localhost", "127.0.0.1"])
def test_a_page_of_another_origin_starts_nothing(tmp_path: Path, pages: Pages, host: str, called: str) -> None:
    with running(ScriptedWorker(), http_hosts=()) as site:
        pages.show("attack.html", site, called)
        with opened(f"http://{host}:{pages.port}/", tmp_path):
            said = pages.said()
        assert not site.worker.asked
    failed = "TypeError: Failed to fetch"
    blind = {"fetch": "opaque", "private": "opaque", "image": "error", "socket": "error", "form": "sent", "beacon": True}
    assert said == {**blind, "json": failed, "read": failed, "admin": failed}


def test_on_an_address_that_browsers_trust_less(tmp_path: Path, pages: Pages) -> None:
    """They leave out `sec-fetch-site` towards plain HTTP that is not loopback's: `origin` has to do."""
    everywhere = "0.0.0.0"  # noqa: S104 - what is meant
    with running(ScriptedWorker(), http_hosts=(), host=everywhere, admin_host=everywhere) as site:
        pages.show("attack.html", site, "worker.example")
        with opened(f"http://page.example:{pages.port}/", tmp_path):
            assert pages.said()["form"] == "sent"
        assert not payloads(site)


def test_a_page_that_has_given_its_name_our_address(tmp_path: Path) -> None:
    """DNS rebinding: the page is of evil.example, and so, for the browser, is the worker."""
    with running(ScriptedWorker(), http_hosts=()) as site:
        port = urlsplit(site.at.url).port
        for host, said in (("evil.example", "setting http_hosts"), ("localhost", '"status":"ok"')):
            command = [*browser(tmp_path), "--dump-dom", f"http://{host}:{port}/odradek/health"]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
            assert said in shown


@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_that_may(tmp_path: Path, pages: Pages, allowed: bool) -> None:
    with running(ScriptedWorker(), http_hosts=(), http_cors_origins=(pages.origin,) if allowed else ()) as site:
        pages.show("allowed.html", site, "localhost")
        with opened(pages.origin + "/", tmp_path):
            said = pages.said()
        failed = "TypeError: Failed to fetch"
        assert said["admin"] == failed
        assert said["json"] == ([200, '"json"', "inv_"] if allowed else failed)
        assert said["missing"] == (404 if allowed else failed)
        assert payloads(site) == ([b'"json"'] if allowed else [])
