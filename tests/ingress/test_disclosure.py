"""What leaves a worker of an exception that was not meant for others: its class and an id, by which its log has the text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Output
from odradek_runtime.node.log_opening import open_log
from odradek_runtime.node.node import Node
from tests.ingress.conftest import until
from tests.records import committed

SECRET = "postgres://bob:hunter2@db"  # noqa: S105
ONCE = RetryPolicy(max_attempts=1)
FAILING = ("raises", "paused", "stepped", "called", "returned", "caused")


@dataclass
class Touchy:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError(SECRET)


def key_of(value: int) -> str:
    raise LookupError(SECRET)


def make_app(name: str) -> App:
    app = App(name, shards=2)
    add_handlers(app)
    add_subscriptions(app, name)
    return app


def add_subscriptions(app: App, name: str) -> None:
    """Of records that fail in their handler, for their key, in their type."""
    plain, keyed, touchy = (
        app.topic(f"{name}-plain", value=int),
        app.topic(f"{name}-keyed", value=int),
        app.topic(f"{name}-touchy", value=Touchy),
    )
    box = app.object("box")

    @app.on(plain, retry=ONCE)
    async def on_plain(ctx: Context, n: int) -> None:
        raise ConnectionError(SECRET)

    @box.on(keyed, key=key_of)
    async def on_keyed(ctx: ObjectContext, n: int) -> None:
        pass

    @app.on(touchy)
    async def on_touchy(ctx: Context, value: Touchy) -> None:
        pass


def add_handlers(app: App) -> None:
    """Each fails in its own way."""

    async def step() -> None:
        raise ConnectionError(SECRET)

    @app.handler(retry=ONCE)
    async def raises(ctx: Context) -> None:
        raise ConnectionError(SECRET)

    @app.handler(retry=RetryPolicy(initial=0.01, max_delay=0.01))
    async def again(ctx: Context) -> None:
        raise ConnectionError(SECRET)

    @app.handler(retry=ONCE, on_exhausted="pause")
    async def paused(ctx: Context) -> None:
        raise ConnectionError(SECRET)

    @app.handler
    async def stepped(ctx: Context) -> None:
        await ctx.run(step, retry=ONCE)

    @app.handler
    async def called(ctx: Context) -> None:
        await ctx.call(raises)

    @app.handler
    async def returned(ctx: Context) -> Touchy:
        value = Touchy(1)
        value.n = -1  # what is written is not read again
        return value

    @app.handler
    async def caused(ctx: Context) -> None:
        raise TerminalError("no journey", code=502) from ConnectionError(SECRET)

    @app.handler
    async def takes(ctx: Context, value: Touchy) -> None:
        pass


@contextmanager
def serving(name: str, settings: Settings) -> Iterator[httpx.Client]:
    """A node of the app."""
    values = {f"{name}-plain": b"1", f"{name}-keyed": b"1", f"{name}-touchy": b'{"n":-1}'}
    with closing(open_log(settings)) as log:
        for topic in values:
            log.create_topic(topic, 1, {})
        with closing(log.publisher(f"{name}-test")) as publisher:
            publisher.publish([Output(topic, 0, b"k", value) for topic, value in values.items()], 3)
    node = Node(make_app(name), settings)
    node.start()
    try:
        until(lambda: node.worker.ready)
        with httpx.Client(base_url=node.url, timeout=60, trust_env=False) as http:
            yield http
    finally:
        node.stop()


def written(name: str, settings: Settings) -> Iterator[tuple[str, list[tuple[str, bytes | None]], bytes]]:
    """Topic, headers, key and value of all that the app's own topics hold."""
    with closing(open_log(settings)) as log:
        for topic in ("commands", "journal", "state", "dead-letters"):
            for message in committed(log, f"{name}.{topic}"):
                yield topic, list(headers_of(message)), (message.key() or b"") + b" " + (message.value() or b"")


@pytest.fixture(params=["embedded", "kafka"])
def log_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    servers: str = request.getfixturevalue("kafka") if request.param == "kafka" else ""
    return replace(Settings(), bootstrap_servers=servers, data_dir=tmp_path, port=0, admin_port=0)


def ask(http: httpx.Client, name: str, caplog: pytest.LogCaptureFixture) -> dict[str, httpx.Response]:
    """The answer of each handler that fails, once all records have failed, too."""
    http.post(f"/{name}/again/send")
    http.post(f"/{name}/paused/send")
    answers = {one: http.post(f"/{name}/{one}") for one in FAILING if one != "paused"}
    answers["takes"] = http.post(f"/{name}/takes", json={"n": -1})
    for text in (
        f"-> {name}.dead-letters ({name}/on_plain)",
        f"({name}/on_touchy)",
        "box/on_keyed",
        "attempt 2 failed",
        "is paused",
    ):
        until(lambda text=text: text in caplog.text)
    return answers


def test_the_class_and_an_id_are_told_and_the_log_has_the_text(
    topic_prefix: str, log_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(topic_prefix, log_settings) as http:
        answers = ask(http, topic_prefix, caplog)
        kept = [
            http.get(f"/odradek/invocations/{a.headers['x-odradek-id']}/output").text
            for a in answers.values()
            if "x-odradek-id" in a.headers
        ]
    lines = [record.getMessage() for record in caplog.records]
    for handler, answer in answers.items():
        message = answer.json()["message"]
        assert "hunter2" not in answer.text, handler
        if handler == "caused":
            assert message == "no journey"
            continue
        assert re.search(r"ConnectionError|KeyError", message), (handler, message)
        (id_,) = re.findall(r"\(in the worker's log: (inv_\w+)\)", message) or [answer.headers["x-odradek-id"]]
        assert any(id_ in line and SECRET in line for line in lines), (handler, message)
    assert not any("hunter2" in text for text in kept)
    letters = {}
    for topic, headers, content in written(topic_prefix, log_settings):
        assert b"hunter2" not in content, (topic, content)
        assert not any(b"hunter2" in (value or b"") for _, value in headers), (topic, headers)
        if topic == "dead-letters":
            told = dict(headers)
            letters[(told["odradek-handler"] or b"").decode()] = (told["odradek-error"] or b"").decode()
    assert set(letters) == {f"{topic_prefix}/on_plain", f"{topic_prefix}/on_touchy", "box/on_keyed"}
    for error in letters.values():
        assert re.search(r"ConnectionError|LookupError|KeyError", error)
        (id_,) = re.findall(r"\(in the worker's log: ([^)]+)\)", error)
        assert any(id_ in line and SECRET in line for line in lines), error


def test_all_of_it_is_told_where_errors_are_shown(topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(Settings(), data_dir=tmp_path, port=0, admin_port=0, errors_shown=True)
    with serving(topic_prefix, settings) as http:
        answers = ask(http, topic_prefix, caplog)
    assert {name for name, answer in answers.items() if SECRET in answer.text} == {"raises", "stepped", "called", "takes"}
    errors = [
        dict(headers)["odradek-error"] or b"" for topic, headers, _ in written(topic_prefix, settings) if topic == "dead-letters"
    ]
    assert len(errors) == 3
    assert all(SECRET.encode() in error for error in errors)
