"""Log lines: users' are never dropped, a flood of ours is counted in bounded memory, and each can be an object on one line."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from odradek_runtime.cli import flood
from odradek_runtime.cli.flood import KINDS, SHOWN, WINDOW_S, FloodGuard, GuardedHandler
from odradek_runtime.cli.log_format import JsonFormatter, TextFormatter
from tests.cli.conftest import SHOP, Run, environment, odradek
from tests.cli.workers import Serving

OURS = str(Path(flood.__file__).parent.parent / "engine.py")


class Lines:
    """A handler on a stream that is kept, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.guard = FloodGuard(lambda: self.now)
        self.handler = GuardedHandler(self.stream, self.guard)

    def say(
        self, template: str, *args: object, path: str = OURS, line: int = 1, name: str = "odradek", **extra: object
    ) -> list[str]:
        """What is written when this is logged."""
        before = len(self.stream.getvalue())
        made = logging.LogRecord(name, logging.WARNING, path, line, template, args, None)
        vars(made).update(extra)
        self.handler.handle(made)
        return self.stream.getvalue()[before:].splitlines()


def test_a_flood_of_one_line_of_ours_is_counted_and_others_pass() -> None:
    lines = Lines()
    shown = [lines.say("bad %d", number) for number in range(100)]
    assert [len(line) for line in shown] == [1] * SHOWN + [0] * (100 - SHOWN)
    assert shown[SHOWN - 1] == [f"bad {SHOWN - 1} (more like it are counted for {WINDOW_S:.0f} s)"]
    assert lines.say("other") == ["other"]
    lines.now = WINDOW_S
    counted = f"bad 99 (the last of {100 - SHOWN} more like it in {WINDOW_S:.0f} s)"
    assert lines.say("bad %d", 100) == [counted, "bad 100"]
    assert lines.say("bad %d", 101) == ["bad 101"]


def test_lines_that_somebody_was_referred_to_by_an_id_are_not_counted() -> None:
    """An answer says no more than "ValueError (in the worker's log: inv_…)"."""
    lines = Lines()
    shown = [lines.say("gave up: %s", f"ValueError: {number}", invocation_id=f"inv_{number}") for number in range(100)]
    assert shown == [[f"gave up: ValueError: {number}"] for number in range(100)]


def test_the_count_of_a_flood_that_has_ended_is_written_with_the_next_line_or_at_the_end() -> None:
    lines = Lines()
    for number in range(8):
        lines.say("bad %d", number)
    lines.now = 3.0
    lines.handler.close()
    assert lines.stream.getvalue().splitlines()[-1] == "bad 7 (the last of 3 more like it in 3 s)"


def test_what_is_said_of_one_handler_hides_nothing_of_another() -> None:
    lines = Lines()
    for number in range(10 * SHOWN):
        lines.say("%s failed", number, handler="customer/ordered")
    assert lines.say("%s failed", 1, handler="customer/paid") == ["1 failed"]
    assert lines.say("%s failed", 1, handler="customer/ordered") == []


def test_users_lines_are_never_dropped() -> None:
    lines = Lines()
    for number in range(40):
        assert lines.say("order %d", number, path="/app/shop.py", name="odradek.shop.pay") == [f"order {number}"]
        assert lines.say(f"order {number}", path="/app/shop.py", name="shop") == [f"order {number}"]
    assert len(lines.guard) == 0


def test_messages_that_are_nothing_but_a_value_are_told_apart() -> None:
    lines = Lines()
    for _ in range(10):
        lines.say("%s", "the broker is away")
    assert lines.say("%s", "topic t is gone") == ["topic t is gone"]


def test_what_is_remembered_of_floods_is_bounded() -> None:
    lines = Lines()
    for number in range(20 * KINDS):
        lines.say("%s", f"value {number}")
        lines.say(f"text {number}", line=number)
    assert len(lines.guard) <= KINDS


def parsed(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def record(message: object, *args: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.WARNING, "/app/shop.py", 3, message, args, None)
    vars(made).update(more)
    return made


def test_times_have_the_date_and_the_zone() -> None:
    for line in (TextFormatter().format(record("x")).split()[0], parsed(JsonFormatter().format(record("x")))["time"]):
        assert datetime.fromisoformat(line).tzinfo is not None


def test_an_object_on_one_line() -> None:
    error = ValueError("no\ngood")
    failed = logging.LogRecord("shop", logging.ERROR, "/app/shop.py", 3, "a\n%s", ("b",), (ValueError, error, None))
    written = JsonFormatter().format(failed)
    assert "\n" not in written
    shown = parsed(written)
    assert (shown["level"], shown["logger"], shown["message"]) == ("error", "shop", "a\nb")
    assert shown["exception"] == "ValueError: no\ngood"
    assert parsed(JsonFormatter().format(record("x", order={"id": 7}, at=Path("/y")))) | {"time": ""} == {
        "time": "", "level": "warning", "logger": "shop", "message": "x", "order": {"id": 7}, "at": "/y",
    }  # fmt: skip


class Sour:
    def __str__(self) -> str:
        raise RuntimeError("sour")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize("wrong", [record("%d apples", "no"), record("%s %s", 1), record(Sour()), record("x %s", Sour())])
def test_a_line_that_cannot_be_formatted_is_written_as_it_is(formatter: logging.Formatter, wrong: logging.LogRecord) -> None:
    assert "cannot be formatted" in formatter.format(wrong)


def test_extras_that_are_no_json_cost_no_line() -> None:
    knot: dict[str, Any] = {}
    knot["knot"] = knot
    assert parsed(JsonFormatter().format(record("x", knot=knot)))["message"] == "x"
    assert parsed(JsonFormatter().format(record("x", odd={(1, 2): Sour()})))["message"] == "x"


IMPORTS = "import logging, os, warnings\nfrom odradek import Context, TerminalError\nlog = logging.getLogger('mine')\n"
TALKING = IMPORTS + SHOP + """
talker = app.service("talker")

@talker.handler
async def talk(ctx: Context, times: int) -> int:
    for number in range(times):
        ctx.logger.info("said %d", number)
        log.info(f"by module {number}")
    await ctx.run(body)
    return times

def body() -> None:
    log.info("in a step", extra={"order": 7})

@customer.handler
async def note(ctx: ObjectContext) -> None:
    log.warning("noted")
    warnings.warn("old")

class Sour:
    def __del__(self) -> None:
        raise ValueError("nobody can be told")

def forgets() -> None:
    Sour()

def forks() -> int:
    child = os.fork()
    if child == 0:
        raise ValueError("in a process of its own")
    return os.waitpid(child, 0)[1]

@talker.handler
async def odd(ctx: Context) -> int:
    await ctx.run(forgets)
    return await ctx.run(forks)

@talker.handler
async def fail(ctx: Context) -> None:
    raise TerminalError("no such order", code=404)
"""


def test_every_line_of_a_worker_is_an_object_that_says_where_it_comes_from(run: Run, folder: Path) -> None:
    (folder / "shop.py").write_text(TALKING)
    with Serving("run", "shop:app", "--log-format", "json", "--log-level", "info") as serving:
        serving.worker()
        run("call", "talker/talk", "40")
        run("call", "customer/bob/note")
        run("call", "talker/odd")
        run("call", "talker/fail", ok=False)
        assert serving.stop() == 0
    lines = [parsed(line) for line in serving.said.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    by_context = [line for line in lines if line["message"].startswith("said ")]
    by_module = [line for line in lines if line["message"].startswith("by module ")]
    assert (len(by_context), len(by_module)) == (40, 40)
    (step,) = [line for line in lines if line["message"] == "in a step"]
    for line in (*by_context, *by_module):
        assert (line["handler"], line["invocation"]) == ("talker/talk", step["invocation"])
    assert step["order"] == 7
    assert step["step"].startswith(step["invocation"])
    (noted,) = [line for line in lines if line["message"] == "noted"]
    assert (noted["handler"], noted["key"], noted["level"]) == ("customer/note", "bob", "warning")
    for message in ("nobody can be told", "in a process of its own"):
        (odd,) = [line for line in lines if message in line.get("exception", "")]
        assert odd["level"] == "error"
    assert any("UserWarning: old" in line["message"] for line in lines)
    assert any("talker/fail" in line["message"] and "404" in line["message"] for line in lines)
    assert any(line["message"].startswith("app shop on embedded") for line in lines)


def test_what_ends_it_is_an_object_too(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    for args in (("run", "broken:app"), ("run", "shop:app", "--group-protocol", "modern")):
        done = odradek(*args, "--log-format", "json", "--port", "0", "--admin-port", "0")
        assert done.returncode == 2
        (line,) = [parsed(text) for text in (done.stderr + done.stdout).splitlines()]
        assert line["level"] == "error"
    assert odradek("run", "shop:app", "--log-format", "xml").stderr.count("none of text, json") == 1


def test_the_level_is_as_asked_for_and_an_apps_own_set_up_stays(run: Run, folder: Path) -> None:
    (folder / "shop.py").write_text("import logging\nlogging.basicConfig(format='MINE %(message)s', level='INFO')\n" + TALKING)
    with Serving("run", "shop:app") as serving:
        serving.worker()
        run("call", "talker/talk", "40")
    assert serving.said.count("MINE said ") == 40
    with Serving("run", "shop:app", "--log-level", "warning") as serving:
        serving.worker()
        run("call", "talker/talk", "40")
        run("call", "customer/bob/note")
    assert (serving.said.count("said "), serving.said.count("MINE noted")) == (0, 1)


FLOODED = """
import logging, resource, sys
from odradek_runtime.cli.logs import set_up_logging
from odradek_runtime.configuration.settings import Settings
set_up_logging(Settings())
log = logging.getLogger("odradek")
def say(count):
    for number in range(count):
        log.warning(f"line {number} of many, each with a text of its own")
say(20_000)
before = len(logging.root.handlers[0]._guard)
say(20_000)
print(before, len(logging.root.handlers[0]._guard))
"""


def test_lines_with_texts_of_their_own_are_all_shown_and_none_is_remembered(folder: Path) -> None:
    command = [sys.executable, "-c", FLOODED]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "0 0\n"
    assert len(done.stderr.splitlines()) == 40_000
