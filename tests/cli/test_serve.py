"""`odradek dev` and `run` as processes: what they print, how the other commands work beside them, deaths and reloads."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import SHOP, Run, odradek
from tests.cli.workers import Serving, alive, until
from tests.engine.damage import flip, tables

HOOKS = """
from pathlib import Path

from odradek import App, Context, TerminalError

app = App("hooks")

@app.handler
async def wait(ctx: Context, order: str) -> str:
    hook = ctx.awakeable(int)
    await ctx.run(Path(order).write_text, hook.id, name="tell", returns=int)
    try:
        return str(await hook)
    except TerminalError as error:
        return f"{error.code} {error.message}"
"""


def total(run: Run, customer: str) -> int:
    return int(run("call", f"customer/{customer}/total").stdout)


def test_the_other_commands_work_beside_it(run: Run, folder: Path) -> None:
    (folder / "orders.csv").write_text("customer,cents\nbob,5\nann,7\nbob,6\n")
    with Serving("dev", "shop:app") as serving:
        worker = serving.worker()
        assert worker["app"] == "shop:app"
        # The types come from the app that runs: without --app nothing else knows that 5 is a number of cents.
        published = run("publish", "orders", "orders.csv", "--key", "customer", "--create")
        assert "guessed" not in published.stderr
        assert "published 3 records" in published.stdout
        until(lambda: len(run("consume", "invoices").stdout.splitlines()) == 3, "three invoices")
        shown = [json.loads(line) for line in run("consume", "invoices", "--key").stdout.splitlines()]
        assert sorted((one["key"], one["value"]["cents"]) for one in shown) == [("ann", 7), ("bob", 5), ("bob", 6)]
        assert (total(run, "bob"), total(run, "ann")) == (11, 7)
        assert {"orders", "invoices"} <= set(run("topics").stdout.split())
        serving.hears("ready: ")
        assert serving.stop() == 0
    for line in ("app", "embedded, in .odradek", "orders → customer/ordered", "POST /customer/{key}/total", worker["url"]):
        assert line in serving.said
    assert "gained" in serving.said
    assert not (folder / ".odradek" / "worker.json").exists()
    # What it left is there for commands that open the log themselves.
    assert len(run("consume", "invoices").stdout.splitlines()) == 3


def test_resolve_and_reject(run: Run, folder: Path) -> None:
    (folder / "hooks.py").write_text(HOOKS)
    with Serving("dev", "hooks:app", "--no-reload") as serving:
        serving.worker()
        for order in ("one", "two", "three"):
            run("call", "hooks/wait", f'"{order}"', "--send", "--idempotency-key", order)
        until(lambda: all((folder / order).exists() for order in ("one", "two", "three")), "the ids")
        ids = {order: (folder / order).read_text() for order in ("one", "two", "three")}
        assert "Settled" in run("resolve", ids["one"], "-7").stderr
        assert "Settled" in run("reject", ids["two"], "no more", "--code", "402").stderr
        assert "Settled" in run("resolve", ids["three"], "-", stdin="8").stderr
        heard = [run("call", "hooks/wait", f'"{order}"', "--idempotency-key", order).stdout for order in ids]
        assert heard == ['"-7"\n', '"402 no more"\n', '"8"\n']
        assert "404: nobody waits" in run("resolve", ids["one"], "9", ok=False).stderr
        assert "400: id" in run("reject", "awk_x", ok=False).stderr
        assert "is not JSON" in run("resolve", ids["one"], "{", ok=False).stderr


def test_call(run: Run, folder: Path) -> None:
    with Serving("dev", "shop:app", "--no-reload") as serving:
        serving.worker()
        assert run("call", "customer/bob/pay", "5").stdout == "5\n"
        once = [run("call", "customer/bob/pay", "2", "--idempotency-key", "k").stdout for _ in range(2)]
        assert once == ["7\n", "7\n"]
        identity = run("call", "customer/bob/pay", "10", "--send").stdout
        assert identity.startswith("inv_")
        until(lambda: total(run, "bob") == 17, "the payment that was sent")
        assert run("call", "customer/bob/pay", "10", "--delay", "50ms").stdout.startswith("inv_")
        until(lambda: total(run, "bob") == 27, "the payment that was delayed")
        assert run("call", "customer/a b/c/total").stdout == "0\n"

        refused = run("call", "customer/bob/pay", "-1", ok=False)
        assert refused.exit_code == 1
        assert "422: cents must not be negative" in refused.stderr
        assert "cents: -1" in refused.stderr
        assert "400" in run("call", "customer/bob/pay", '"much"', ok=False).stderr
        assert "404" in run("call", "customer/bob/pai", "1", ok=False).stderr
        assert "the argument is not JSON" in run("call", "customer/bob/pay", "much", ok=False).stderr
        assert "is no target" in run("call", "customer", ok=False).stderr
        assert "no such option: --sned" in run("call", "customer/bob/pay", "--sned", ok=False).stderr
    assert "no worker answers at" in run("call", "customer/bob/total", "--url", "http://127.0.0.1:9", ok=False).stderr


def test_a_killed_worker_is_restarted_and_knows_its_state(run: Run, folder: Path) -> None:
    with Serving("run", "shop:app") as serving:
        before = serving.worker()
        run("call", "customer/bob/pay", "5")
        os.kill(before["pid"], signal.SIGKILL)
        after = serving.worker(other_than=before["pid"])
        assert after["pid"] != before["pid"]
        assert total(run, "bob") == 5
        assert "worker 0 died (SIGKILL): restarting" in serving.said
        assert serving.stop() == 0


def test_a_worker_whose_supervisor_is_killed_stops_by_itself(folder: Path) -> None:
    with Serving("run", "shop:app") as serving:
        pid = serving.worker()["pid"]
        serving.process.kill()
        until(lambda: not alive(pid), "the end of the orphan")
        assert "the supervisor is gone" in serving.said
    assert not (folder / ".odradek" / "worker.json").exists()


@pytest.mark.parametrize("how", ["dev", "run", "run, with errors shown"])
def test_only_dev_tells_what_an_exception_says(run: Run, folder: Path, how: str) -> None:
    failing = """
from odradek import App, Context, RetryPolicy
app = App("failing")
@app.handler(retry=RetryPolicy(max_attempts=1))
async def go(ctx: Context) -> None:
    raise ConnectionError("postgres://bob:hunter2@db")
"""
    (folder / "failing.py").write_text(failing)
    env = {"ODRADEK_ERRORS_SHOWN": "1"} if "shown" in how else {}
    with Serving(how.partition(",")[0], "failing:app", env=env) as serving:
        serving.worker()
        said = run("call", "failing/go", ok=False).output
        serving.hears("ConnectionError: postgres://bob:hunter2@db")
    assert ("hunter2" in said) is (how != "run")
    assert "gave up after 1 attempts: ConnectionError" in " ".join(said.split())
    assert ("(in the worker's log: inv_" in said) is (how == "run")


def test_ctrl_c_stops_it_cleanly(folder: Path) -> None:
    with Serving("dev", "shop:app") as serving:
        pid = serving.worker()["pid"]
        # As a terminal does it: to the whole group.
        os.killpg(serving.process.pid, signal.SIGINT)
        assert serving.process.wait(60) == 0
        assert not alive(pid)
    assert "Traceback" not in serving.said


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("moment", ["msgspec", "pydantic_core", "a worker"])
def test_ctrl_c_ends_it_quietly_however_early(folder: Path, moment: str) -> None:
    """Amid the imports, near their end, and when the first worker begins with its own."""
    with Serving("dev", "shop:app") as serving:
        process = Path(f"/proc/{serving.process.pid}")
        children = process / "task" / process.name / "children"
        there = children.read_text if moment == "a worker" else lambda: moment in (process / "maps").read_text()
        until(there, moment)
        os.killpg(serving.process.pid, signal.SIGINT)
        code = serving.process.wait(60)
    # Python ends itself by the signal where it has interrupted an exec of text: a shell calls that 130, too.
    assert code in (0, 130, -signal.SIGINT), serving.said
    assert "Traceback" not in serving.said
    assert "error" not in serving.said


@pytest.mark.usefixtures("ctrl_c")
def test_a_worker_is_deaf_to_ctrl_c_from_its_start(folder: Path) -> None:
    with Serving("dev", "shop:app") as serving:
        children = Path(f"/proc/{serving.process.pid}/task/{serving.process.pid}/children")
        pid = int(until(lambda: children.read_text().split(), "the worker's process")[0])
        until(lambda: b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"), "its program")
        while not (folder / ".odradek" / "worker.json").exists():
            os.kill(pid, signal.SIGINT)
        assert serving.worker()["pid"] == pid


def test_dev_restarts_on_a_change_and_waits_out_a_broken_one(run: Run, folder: Path) -> None:
    with Serving("dev", "shop:app") as serving:
        pid = serving.worker()["pid"]
        run("call", "customer/bob/pay", "5")
        (folder / "shop.py").write_text(SHOP + "\nthis is no Python\n")
        serving.hears("waiting for a change")
        assert "shop.py changed: restarting" in serving.said
        assert "SyntaxError" in serving.said
        assert "appref.py" not in serving.said
        (folder / "shop.py").write_text(SHOP.replace("return ctx.get(spent)", "return ctx.get(spent) * 2"))
        serving.worker(other_than=pid)
        assert total(run, "bob") == 10


def test_an_app_that_cannot_be_had_ends_run_at_once(folder: Path) -> None:
    done = odradek("run", "shop:ap", "--port", "0", "--admin-port", "0")
    assert done.returncode == 2
    assert "module shop has no attribute 'ap'" in done.stderr
    assert "write shop:app" in done.stderr
    assert done.stderr.count("error:") == 1


def test_the_users_own_traceback_is_all_there_is(folder: Path) -> None:
    (folder / "broken.py").write_text("def half():\n    return 1 / 0\n\nhalf()\n")
    frames = [line for line in odradek("run", "broken:app").stderr.splitlines() if line.lstrip().startswith("File ")]
    assert len(frames) == 2
    assert all("broken.py" in frame for frame in frames)
    assert "appref.py" in odradek("--debug", "run", "broken:app").stderr


@pytest.mark.parametrize("command", ["run", "dev"])
def test_a_port_in_use_is_named_and_ends_it(folder: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = odradek(command, "shop:app", "--port", port, "--admin-port", "0")
    assert done.returncode == 2
    assert f"127.0.0.1:{port}: the port is in use" in done.stderr
    assert "waiting for a change" not in done.stderr


@pytest.mark.parametrize("data_dir", ["/proc/nope", "shop.py"])
def test_dev_ends_where_no_change_of_the_source_would_help(folder: Path, data_dir: str) -> None:
    done = odradek("dev", "shop:app", "--port", "0", "--admin-port", "0", "--data-dir", data_dir)
    assert (done.returncode, done.stderr.count("cannot be used")) == (2, 1)
    assert "waiting for a change" not in done.stderr


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "localhost"])
def test_any_form_of_a_host_is_listened_on_and_reached(run: Run, folder: Path, host: str) -> None:
    args = ("run", "shop:app", "--host", host, "--admin-host", host)
    with Serving(*args) as serving:
        worker = serving.worker()
        for url in (worker["url"], worker["admin_url"]):
            assert urlsplit(url).port
            assert ("::" not in host) or ("[::1]" in url or host == "::")
        assert run("call", "customer/bob/pay", "5").stdout == "5\n"
        assert "orders" in run("topics").stdout
        port = str(urlsplit(worker["url"]).port)
        done = odradek("run", "shop:app", "--data-dir", "other", "--host", host, "--port", port, "--admin-port", "0")
        assert done.returncode == 2
        shown = host if "[" in host or ":" not in host else f"[{host}]"
        assert f"HTTP port {shown}:{port}: the port is in use" in done.stderr
        assert serving.stop() == 0
    assert worker["url"] in serving.said


def test_a_host_that_does_not_exist_is_named(folder: Path) -> None:
    done = odradek("run", "shop:app", "--host", "no.such.host.invalid", "--port", "0", "--admin-port", "0")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "no.such.host.invalid:0: no such host" in done.stderr


def test_of_several_workers_one_says_why_they_cannot_start(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = odradek("run", "shop:app", "-b", "127.0.0.1:1", "--workers", "3", "--port", port, "--admin-port", "0")
    assert done.returncode == 2
    assert done.stderr.count("error:") == done.stderr.count("the port is in use") == 1


def test_of_several_workers_one_says_so_after_each_change(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    with Serving("run", "broken:app", "-b", "127.0.0.1:1", "--workers", "2", "--reload") as serving:
        serving.hears("waiting for a change of the source")
        serving.hears("ZeroDivisionError")
        (folder / "broken.py").write_text("import absent_thing\n")
        serving.hears("No module named 'absent_thing'")
        until(lambda: serving.said.count("waiting for a change") == 2, "both to have ended")
        assert serving.stop() == 0
    assert serving.said.count("error:") == 2


@pytest.mark.parametrize(
    ("data_dir", "reason"),
    [("/proc/nope", "No such file or directory"), ("shop.py", "it is a file, not a folder"), ("shop.py/x", "Not a directory")],
)
def test_a_data_folder_that_cannot_be_used_ends_it_at_once(folder: Path, data_dir: str, reason: str) -> None:
    done = odradek("dev", "shop:app", "--no-reload", "--port", "0", "--admin-port", "0", "--data-dir", data_dir)
    assert done.returncode == 2
    said = f"error: the data folder {data_dir} cannot be used: {reason}\n  → name another: --data-dir DIR\n"
    assert done.stderr == said
    made = odradek("topics", "--create", "t", "--data-dir", data_dir)
    assert (made.returncode, made.stderr) == (2, said)


def test_a_second_worker_in_the_same_folder_is_refused(folder: Path) -> None:
    with Serving("dev", "shop:app") as serving:
        serving.worker()
        for command in ("run", "dev"):
            done = odradek(command, "shop:app", "--port", "0", "--admin-port", "0")
            assert done.returncode == 2
            assert done.stderr.count("error:") == 1
            assert "waiting for a change" not in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "shop:app", "--workers", "2"), "the embedded log takes one worker"),
        (("run", "shop:app", "--group-protocol", "modern"), "group protocol 'modern' does not exist"),
        (("run", "shop:app", "-b", "h:1", "-w", "2", "--private-port", "7"), "name one worker"),
        (
            ("run", "shop:app", "-b", "h:1", "--group-protocol", "consumer", "--session-timeout", "6"),
            "session_timeout_s=6 does nothing with --group-protocol consumer",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(run: Run, args: tuple[str, ...], said: str) -> None:
    failed = run(*args, ok=False)
    assert failed.exit_code == 2
    assert said in failed.stderr


def test_a_kafka_that_is_away_is_waited_for_in_words(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with Serving("run", "shop:app", "--bootstrap-servers", address) as serving:
        serving.hears("waiting for the log, again in 1 s")
        serving.hears("again in 2 s")
        assert serving.stop() == 0
    assert f"Kafka at {address} cannot be reached" in serving.said
    assert "Traceback" not in serving.said
    assert "died" not in serving.said


def test_an_app_that_does_not_fit_its_log_ends_run_with_the_remedy(folder: Path) -> None:
    (folder / "other.py").write_text(SHOP.replace('App("shop")', 'App("shop", shards=3)'))
    with Serving("run", "shop:app") as serving:
        serving.worker()
        serving.stop()
    done = odradek("run", "other:app", "--port", "0", "--admin-port", "0")
    assert done.returncode == 2
    assert "the number of shards of an app never changes" in done.stderr
    assert "use shards=" in done.stderr


def test_flags_of_kafka_without_kafka_are_said_to_do_nothing(folder: Path) -> None:
    with Serving("run", "shop:app", "--session-timeout", "9", "--kafka", "debug=all") as serving:
        serving.worker()
    for flag in ("--session-timeout", "--kafka"):
        assert f"{flag} is for Kafka, and this is the embedded log: it does nothing here" in serving.said
    assert "--group-protocol is" not in serving.said


@pytest.mark.parametrize("command", ["dev", "run"])
def test_a_damaged_log_ends_it_with_the_file_and_the_way_out(run: Run, folder: Path, command: str) -> None:
    """At the start or in the middle: one message, no traceback, no worker that is started again and again."""
    lines = "".join(f'{{"customer": "c{n}", "cents": {n}}}\n' for n in range(20_000))
    run("publish", "orders", "-", "--create", stdin=lines)
    run("topics")
    damaged = tables(Path(".odradek/log/db"))[0]
    flip(damaged, 0.2, 0.4, 0.6, 0.8)

    ended = odradek(command, "shop:app", "--port", "0", "--admin-port", "0")

    said = ended.stdout + ended.stderr
    assert ended.returncode == 2, said
    assert said.count("is damaged") == 1, said
    assert str(damaged) in said
    assert "put a copy of the folder" in said
    assert "Traceback" not in said


def test_topics_shows_who_has_read_how_far(run: Run, folder: Path) -> None:
    def shown(topic: str) -> list[list[str]]:
        return [line.split() for line in run("topics").stdout.splitlines() if line.split()[0] == topic]

    orders = '{"customer": "bob", "cents": 5}\n' * 3
    with Serving("run", "shop:app") as serving:
        serving.worker()
        run("publish", "orders", "-", "--key", "customer", "--name", "first", stdin=orders)
        until(lambda: shown("orders") == [["orders", "8", "3", "shop", "0"]], "the app to have read them")
        assert shown("invoices") == [["invoices", "8", "3"]]
        serving.stop()
    run("publish", "orders", "-", "--key", "customer", "--name", "second", stdin=orders)
    assert shown("orders") == [["orders", "8", "6", "shop", "3"]]
    (folder / "other.py").write_text(SHOP.replace('App("shop")', 'App("other")'))
    with Serving("run", "other:app", "--no-reload") as serving:
        serving.worker()
        until(lambda: "other" in run("topics").stdout, "the second reader")
    lines = [line.split() for line in run("topics").stdout.splitlines()]
    at = next(number for number, line in enumerate(lines) if line[0] == "orders")
    assert [line[-2] for line in lines[at : at + 2]] == ["other", "shop"]
