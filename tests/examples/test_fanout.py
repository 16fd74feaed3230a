"""examples/fanout.py: the report of pages of which some fail; killed in the middle, what had come back is not fetched again."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.examples.running import example, until

if TYPE_CHECKING:
    from collections.abc import Generator

PRINTED = (
    '{"pages":[{"url":"http://localhost:8080/odradek/health","size":...}],"size":...,'
    '"failed":{"http://localhost:8080/none":"404 Not Found"}}'
)
HERE = {"NO_PROXY": "localhost,127.0.0.1"}


class Site:
    """Pages of four bytes; those whose names begin with "slow" come once they are let go, those with "gone" never."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = threading.Event()
        self.url = ""


@contextmanager
def site() -> Generator[Site]:
    here = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            here.asked[name] += 1
            if name.startswith("slow"):
                here.go.wait(60)
            self.send_response(410 if name.startswith("gone") else 200)
            self.send_header("content-length", "4")
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked was killed
                self.wfile.write(b"page")

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield here
    finally:
        here.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_killed_in_the_middle_only_the_rest_is_fetched_again(tmp_path: Path) -> None:
    names = [*(f"quick-{n}" for n in range(10)), "gone", *(f"slow-{n}" for n in range(25))]
    with site() as pages, example("fanout", tmp_path, PRINTED, HERE) as running:
        urls = [f"{pages.url}/{name}" for name in names]
        sent = running.http.post("/pages/survey/send", json=urls, headers={"idempotency-key": "k"})
        assert sent.status_code == 202
        until(lambda: running.results() == 11, "what is quick to be recorded")
        until(lambda: sum(name.startswith("slow") for name in pages.asked) == 20, "twenty at once")
        running.kill()
        pages.go.set()
        report = running.http.get("/pages/survey/attach", headers={"idempotency-key": "k"}).json()

    assert {page["url"] for page in report["pages"]} == {url for url in urls if "gone" not in url}
    assert (report["size"], report["failed"]) == (4 * 35, {f"{pages.url}/gone": "410 Gone"})
    assert {name: times for name, times in pages.asked.items() if not name.startswith("slow") and times > 1} == {}


def test_what_is_no_url_is_a_line_of_the_report(tmp_path: Path) -> None:
    with example("fanout", tmp_path, PRINTED, HERE) as running:
        report = running.post("/pages/survey", ["gopher://old", "gopher://old"])
        assert list(report["failed"]) == ["gopher://old"]
        refused = running.http.post("/pages/survey", json=["http://localhost/"] * 1_001)
        assert refused.status_code == 422
