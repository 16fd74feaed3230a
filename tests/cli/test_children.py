"""Processes and threads that steps leave behind: they have nothing of their worker's, and it stops in time beside them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.cli.workers import Serving, alive, until

SHOP = """
import multiprocessing, os, signal, subprocess, sys, threading, time
from odradek import App, Context

app = App("shop")
forking = multiprocessing.get_context("fork")
kept = []

def forked() -> int:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
        os._exit(0)
    return child

def multiprocessed() -> int:
    kept.append(forking.Process(target=time.sleep, args=(1000,)))
    kept[-1].start()
    return kept[-1].pid

def executed() -> int:
    kept.append(subprocess.Popen(["sleep", "1000"]))
    return kept[-1].pid

def shelled() -> int:
    os.system("sleep 1000 & echo $! > shelled.pid")
    return int(open("shelled.pid").read())

def thread() -> int:
    threading.Thread(target=time.sleep, args=(1000,), name="users-thread", daemon=False).start()
    return 0

async def pooled() -> int:
    import asyncio
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)
    return 0

def hangs() -> int:
    open("hangs", "w").close()
    time.sleep(1000)
    return 0

def terminated() -> int:
    for _ in range(50):
        process = forking.Process(target=time.sleep, args=(1000,))
        process.start()
        process.terminate()  # it may not even have begun
        process.join(10)
        if process.exitcode is None:
            process.kill()
            return 0
    return process.exitcode

BODIES = {f.__name__: f for f in (forked, multiprocessed, executed, shelled, thread, pooled, hangs, terminated)}

@app.handler
async def go(ctx: Context, body: str) -> int:
    return await ctx.run(BODIES[body], name=body)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process has inherited")


@contextmanager
def ended() -> Generator[list[int]]:
    """Processes that must not outlive the test."""
    left: list[int] = []
    try:
        yield left
    finally:
        for child in left:
            if alive(child):
                os.kill(child, signal.SIGKILL)


def ask(worker: dict[str, str], body: str) -> int:
    return int(httpx.post(f"{worker['url']}/shop/go", json=body, timeout=60).json())


def signals(pid: int, mask: str) -> set[int]:
    """Those that a process catches (SigCgt), ignores (SigIgn) or blocks (SigBlk)."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(mask)]
    bits = int(line.split()[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def sockets(pid: int) -> set[str]:
    """The inodes of its sockets."""
    targets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return {target for target in targets if target.startswith("socket:")}


def inet() -> set[str]:
    """The inodes of every TCP socket of this machine that is listening or connected."""
    found = set[str]()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        found.update(f"socket:[{line.split()[9]}]" for line in Path(table).read_text().splitlines()[1:])
    return found


@linux
def test_children_have_nothing_of_the_worker_and_it_stops_in_time_beside_all_that_steps_leave(folder: Path) -> None:
    (folder / "shop.py").write_text(SHOP)
    with Serving("dev", "shop:app", "--no-reload", "--log-format", "json") as serving, ended() as left:
        worker = serving.worker()
        children = {body: ask(worker, body) for body in ("forked", "multiprocessed", "executed", "shelled")}
        left += children.values()
        ours = {int(signal.SIGTERM), int(signal.SIGHUP), int(signal.SIGINT)}
        for body, child in children.items():
            until(lambda child=child: not signals(child, "SigBlk") & ours, f"{body} to have begun")
            by_shell = {int(signal.SIGINT)} if body == "shelled" else set[int]()  # a shell's own doing, for what it runs behind
            assert not signals(child, "SigIgn") & (ours - by_shell), body
            assert not signals(child, "SigCgt") & {int(signal.SIGTERM), int(signal.SIGHUP)}, body
            assert not sockets(child) & inet(), body
        assert ask(worker, "terminated") == -signal.SIGTERM
        assert ask(worker, "thread") == ask(worker, "pooled") == 0
        httpx.post(f"{worker['url']}/shop/go/send", json="hangs")
        until((folder / "hangs").exists, "a body that does not end")
        assert serving.stop() == 0, serving.said
        assert "did not stop within" not in serving.said
        (last,) = [line for line in map(json.loads, serving.said.splitlines()) if "users-thread" in line["message"]]
        assert (last["level"], last["message"].split(" what ")[0]) == ("warning", "stopped without waiting any longer for")
        assert all(alive(child) for child in left)
        address = urlsplit(worker["url"])
        with socket.socket() as probe:
            assert probe.connect_ex((address.hostname, address.port)) != 0, "somebody still listens"
        for child in left:
            os.kill(child, signal.SIGTERM)
        until(lambda: not any(alive(child) for child in left), "SIGTERM ends them all")
