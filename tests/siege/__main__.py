"""`python -m tests.siege --minutes 60 --log kafka`: an app under every attack at once; honest clients beside it; a judgement.

What must hold: no 500 that the app did not ask for, no request without an answer, no worker that ends, probes within 100 ms (and
what a process that does nothing else takes on the same busy machine), memory within the setting, everything exactly once,
also after the workers have been killed amid what strangers left in the journal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from tests.broker import running_broker
from tests.cli.conftest import command, environment
from tests.cli.workers import alive
from tests.processes import listening, resident_bytes, tree
from tests.siege.attackers import ATTACKERS, Target
from tests.siege.watch import Honest, Probed, control, ended_once, probe

MIB = 1024 * 1024
MEMORY_BYTES = 256 * MIB
PROBE_MS = 100.0
HONEST = 4
START_S = 900
"""A worker that is given another's shards reads their whole journals, with all that strangers have left there."""
ENDED_S = 600
"""What strangers have written is dealt with by then, counted from when the totals have been compared."""
PREFERRED = -10
"""The workers' and the probes' nice value, where it may be set: on a machine that has no other cores for the attackers."""


class Besieged:
    """The app's supervisor and its workers."""

    def __init__(self, folder: Path, kafka: str, name: str, workers: int) -> None:
        on = ["-b", kafka, "--create-topics", "--workers", str(workers)] if kafka else []
        places = [f"worker-{n}" for n in range(workers)] if kafka else [""]
        self._files = [folder / place / "worker.json" for place in places]
        self._args = command(["run", "tests.siege.app:app", *on, "--data-dir", str(folder), "--port", "0", "--admin-port", "0"])
        self._env = {**environment(), "SIEGE_NAME": name, "ODRADEK_MEMORY_BYTES": str(MEMORY_BYTES)}
        self._said = folder / "said.log"
        self.start()

    def start(self) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(self._args, env=self._env, stdout=said, stderr=said, start_new_session=True)
        until_s = time.monotonic() + START_S
        while not all(self._ready(file) for file in self._files):
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the app does not start:\n{self._said.read_text()[-3_000:]}")
            time.sleep(0.2)
        self.workers = [json.loads(file.read_text()) for file in self._files]

    @staticmethod
    def _ready(file: Path) -> bool:
        try:
            return httpx.get(json.loads(file.read_text())["admin_url"] + "/ready").is_success
        except (OSError, ValueError, httpx.HTTPError):
            return False

    def prefer(self) -> None:
        for pid in tree(self.process.pid):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), PREFERRED)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def said(self) -> str:
        return self._said.read_text(errors="replace")


@contextmanager
def place(log: str) -> Iterator[str]:
    """Kafka's address; "" for the embedded log."""
    if log == "embedded":
        yield ""
    else:
        with running_broker() as servers:
            yield servers


@contextmanager
def controlled(nice: int) -> Iterator[str]:
    """The address of a process that only answers, to tell a slow worker from a busy machine."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=control, args=(told, nice), daemon=True)
    process.start()
    try:
        yield told.get(timeout=60)
    finally:
        process.kill()
        process.join()


def besiege(kafka: str, folder: Path, minutes: float, only: list[str], seed: int, console: Console) -> list[str]:
    """What was wrong."""
    name = f"siege-{uuid.uuid4().hex[:6]}"
    with closing(Besieged(folder, kafka, name, 2 if kafka else 1)) as app:
        return attacked(app, name, kafka, minutes, only, seed, console)


def attacked(app: Besieged, name: str, kafka: str, minutes: float, only: list[str], seed: int, console: Console) -> list[str]:
    """What was wrong when it was over."""
    preferred = os.geteuid() == 0
    if preferred:
        app.prefer()
    pids = [worker["pid"] for worker in app.workers]
    urls = sorted({worker["url"] for worker in app.workers})
    public = urlsplit(urls[0]).port or 0
    ports = (public, *sorted(listening(pids) - {public}))
    base = {pid: resident_bytes(pid) for pid in pids}
    until_s = time.time() + minutes * 60
    where = "Kafka" if kafka else "the embedded log"
    console.print(f"{where}: {len(pids)} workers, ports {', '.join(map(str, ports))}, {minutes:g} minutes, seed {seed}")
    honest = [Honest(urls, number) for number in range(HONEST)]
    context = multiprocessing.get_context("spawn")
    nice = PREFERRED if preferred else 0
    with (
        context.Pool(len(ATTACKERS), initializer=os.nice, initargs=(10,)) as pool,
        context.Pool(len(pids) + 1) as probers,
        controlled(nice) as idle,
    ):
        admins = [idle, *(worker["admin_url"] for worker in app.workers)]
        probing = [probers.apply_async(probe, (url, until_s, nice)) for url in admins]
        attacks = {
            kind: pool.apply_async(ATTACKERS[kind], (Target(ports, kafka, name, until_s, f"127.0.0.{number}"), seed))
            for number, kind in enumerate(only, start=2)
        }
        for each in honest:
            each.start()
        highest, last_told_s = dict(base), 0.0
        while time.time() < until_s:
            time.sleep(0.25)
            for pid in pids:
                with suppress(ProcessLookupError):  # the judgement says so
                    highest[pid] = max(highest[pid], resident_bytes(pid))
            if time.time() - last_told_s > 30:
                last_told_s = time.time()
                left_s = until_s - last_told_s
                console.print(
                    f"  {left_s / 60:5.1f} min left · honest {sum(each.added.total() for each in honest):,}"
                    f" · memory {max(highest[pid] - base[pid] for pid in pids) // MIB} MiB above the start"
                )
        machine, *probes = [probed.get(300) for probed in probing]
        wrong = [f"{kind}: {what}" for kind, attack in attacks.items() for what in attack.get(300)]
    for each in honest:
        each.ending.set()
    for each in honest:
        each.join(300)
    wrong += judged(app, pids, base, highest, machine, probes, honest, urls[0], console)
    if kafka and "strange_records" in only:
        wrong += ended_once(kafka, name, ENDED_S)
    return wrong


def judged(
    app: Besieged, pids: list[int], base: dict[int, int], highest: dict[int, int],
    machine: Probed, probes: list[Probed], honest: list[Honest], url: str, console: Console,
) -> list[str]:  # fmt: skip
    """The rest of what was wrong; the app is killed and started once more for it."""
    wrong = [f"probe failed: {what}" for probed in probes for what in probed.failed[:5]]
    slowest_ms, machine_ms = max(probed.share_ms(1.0) for probed in probes), machine.share_ms(1.0)
    if slowest_ms > PROBE_MS + machine_ms:
        wrong.append(f"a probe took {slowest_ms:.0f} ms, a process that does nothing else {machine_ms:.0f} at the most")
    if [worker["pid"] for worker in app.workers] != pids or not all(alive(pid) for pid in pids):
        wrong.append("a worker has ended")
    above = max(highest[pid] - base[pid] for pid in pids)
    if above > MEMORY_BYTES * 5 // 4:
        wrong.append(f"{above // MIB} MiB above the start, of {MEMORY_BYTES // MIB}")
    traces = app.said().split("Traceback (most recent call last)")[1:]
    wrong += [f"said: Traceback{trace[:1_000]}" for trace in traces if "siege/app.py" not in trace[:1_000]]
    keys, added = sum(len(each.added) for each in honest), sum(each.added.total() for each in honest)
    looks, p99_ms = sum(len(probed.took_ms) for probed in probes), max(probed.share_ms(0.99) for probed in probes)
    table = Table("what", "figure")
    table.add_row("honest requests, exactly once", f"{keys} keys, sum {added:,}")
    table.add_row("repeated by honest clients", f"{sum(each.repeated for each in honest):,}")
    table.add_row("probes", f"{looks:,}, p99 {p99_ms:.0f}, max {slowest_ms:.0f} ms")
    table.add_row("a process that does nothing else", f"p99 {machine.share_ms(0.99):.0f}, max {machine_ms:.0f} ms")
    table.add_row("memory above the start, most", f"{above // MIB} MiB of {MEMORY_BYTES // MIB}")
    console.print(table)
    app.kill()
    app.start()
    console.print("killed, started again: the totals are compared")
    with httpx.Client(timeout=60) as client:
        for each in honest:
            each.check(client, app.workers[0]["url"])
    wrong += [what for each in honest for what in each.wrong]
    return wrong


def main() -> int:
    """The exit code: 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for each log (5)")
    parser.add_argument("--log", choices=["kafka", "embedded", "both"], default="both")
    parser.add_argument("--only", choices=sorted(ATTACKERS), nargs="*", default=sorted(ATTACKERS), help="these attackers")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    console, failed = Console(), 0
    for log in ("embedded", "kafka") if options.log == "both" else (options.log,):
        folder = Path(tempfile.mkdtemp(prefix="siege-"))
        with place(log) as kafka:
            wrong = besiege(kafka, folder, options.minutes, options.only, options.seed, console)
        for what in wrong:
            console.print(f"[red]✗[/] {what}", markup=True, highlight=False)
        if wrong:
            failed = 1
            console.print(f"what it said is in {folder}/said.log")
        else:
            console.print(f"[green]✓[/] {log}: nothing was wrong")
            shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    sys.exit(main())
