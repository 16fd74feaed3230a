"""`python -m tests.routes`: a worker on the embedded log, its routes under schemathesis for some minutes.

It fails when an answer is a 500, when a request hangs, when `/health` does not answer, when the worker's process ends or says a
traceback, and when it grows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from tests.cli.workers import Serving
from tests.processes import resident_bytes
from tests.routes import openapi

PROJECT = Path(__file__).resolve().parents[2]
HANGS_S = 60
GROWTH = 2.0
"""Resident memory may come to so many times what it is after the public port: stores and allocators fill up."""


class Prober:
    """Asks `/health` of the admin port again and again, and notes the longest wait."""

    def __init__(self, admin_url: str) -> None:
        self._url = admin_url + "/health"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.times_s: list[float] = []
        self.failed = ""

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=HANGS_S, trust_env=False) as client:
            while not self._stopped.wait(0.1):
                began = time.monotonic()
                try:
                    client.get(self._url).raise_for_status()
                except httpx.HTTPError as error:
                    self.failed = repr(error)
                self.times_s.append(time.monotonic() - began)


def ask(program: str, document: dict[str, Any], url: str, seconds: int, seed: int, token: str) -> int:
    """Run schemathesis; 1 when it found something."""
    Path("openapi.json").write_text(json.dumps(document))
    command = [program, "run", "openapi.json", "--url", url, "--max-time", str(seconds), "--seed", str(seed)]
    command += ["--checks", "not_a_server_error", "--request-timeout", str(HANGS_S), "--workers", "1", "--continue-on-failure"]
    command += ["--warnings", "off", "--suppress-health-check", "all", "--no-color"]
    command += ["--header", f"authorization: Bearer {token}"] if token else []
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """The exit code: 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.routes", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each port (120)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="else another one each time")
    parser.add_argument("--schemathesis", default=str(PROJECT / ".cache" / "schemathesis" / "bin" / "st"), help="the program")
    options = parser.parse_args()
    console, wrong = Console(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with Serving("run", "tests.routes.app:app", env={"PYTHONPATH": str(PROJECT)}) as serving:
            worker = serving.worker()
            with Prober(worker["admin_url"]) as prober:
                early_bytes = 0
                for name, document in (("url", openapi.public()), ("admin_url", openapi.admin())):
                    token = worker["token"] if name == "admin_url" else ""
                    if ask(options.schemathesis, document, worker[name], options.seconds, options.seed, token):
                        wrong.append(f"schemathesis found something at the {name} (seed {options.seed})")
                    early_bytes = early_bytes or resident_bytes(worker["pid"])
            last_bytes = resident_bytes(worker["pid"])
            if last_bytes > GROWTH * early_bytes:
                wrong.append("the worker grows")
            answer = httpx.post(worker["url"] + "/customer/last/pay", json=1, timeout=HANGS_S, trust_env=False)
            if answer.status_code != 200:
                wrong.append(f"the last call: {answer.status_code} {answer.text}")
            if prober.failed:
                wrong.append(f"/health: {prober.failed}")
            if serving.worker()["pid"] != worker["pid"]:
                wrong.append("the worker's process has ended")
            if "Traceback" in serving.said:
                wrong.append(f"the worker said:\n{serving.said[-20_000:]}")
            if serving.stop() != 0:
                wrong.append("the worker did not end as it should")
        os.chdir(PROJECT)
    times = sorted(prober.times_s)
    said = f"/health: {len(times)} times, p99 {times[len(times) * 99 // 100] * 1000:.0f} ms, at most {times[-1] * 1000:.0f} ms"
    console.print(f"{said}; resident {early_bytes >> 20} MiB after the public port, {last_bytes >> 20} MiB at the end")
    for line in wrong:
        console.print(f"[red]{line}", markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
