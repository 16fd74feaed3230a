"""Keeps worker processes alive: starts them, restarts the dead with backoff, passes SIGTERM on and waits for the drain.

A worker is `python -m odradek_runtime.cli worker`. It holds one end of a pipe, its lifeline: its settings come through
it, and its end tells an orphan that the supervisor is gone. Several share a second pipe, their voice, with one byte in it:
who takes that says why they cannot start.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
from rich.markup import escape

from odradek_runtime.cli.errors import FAILED, UNUSABLE, USAGE
from odradek_runtime.cli.reload import SourceReader, SourceWatch
from odradek_runtime.cli.speech import Speech
from odradek_runtime.cli.stop import StopRequest
from odradek_runtime.configuration.settings import Settings

POLL_S = 0.1
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
HEALTHY_S = 30.0
"""A worker that ran this long starts again with the first backoff."""
DRAIN_S = 30.0
"""How long a worker may take to hand over before it is killed."""


@dataclass(slots=True)
class Child:
    """One worker's process and what is known of its luck."""

    index: int
    settings: Settings
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    sources: SourceReader | None = None
    started_s: float = 0.0
    next_start_s: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S


def reap_orphans(workers: Collection[int]) -> None:
    """Take the exit status of every process but these: the first process of a container inherits a killed worker's producers."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in workers:
            os.waitpid(ended.si_pid, 0)


class Supervisor:
    """Runs one child per settings until SIGTERM or Ctrl-C.

    Args:
        reference: `module:app`, given to each worker.
        settings: one per worker.
        watch: dev's reload: on the app's source. With it, a worker that cannot start as its source is waits for a change
            instead of ending everything.
        debug: workers show the stack trace of what ends them.
    """

    def __init__(
        self,
        reference: str,
        settings: Sequence[Settings],
        watch: SourceWatch | None = None,
        *,
        debug: bool = False,
    ) -> None:
        self._debug = debug
        self._reference = reference
        self._speech = Speech(settings[0])
        self._children = [Child(index, one) for index, one in enumerate(settings)]
        self._source = watch
        self._stopping = StopRequest()
        self._exit_code = 0
        self._voice: tuple[int, ...] = ()
        """Both ends of the pipe, when there are several workers."""

    def run(self) -> int:
        """Blocks. The exit code: 0 after a signal, 2 when the app or a setting is unusable."""
        with self._signals(), self._voices():
            self._give_word()
            for child in self._children:
                self._start(child)
            while not self._stopping.wait(POLL_S):
                self._reload()
                for child in self._children:
                    self._watch(child)
                if os.getpid() == 1:
                    reap_orphans({child.process.pid for child in self._children if child.process is not None})
            self._stop_all()
        return self._exit_code

    def _watch(self, child: Child) -> None:
        if child.process is not None:
            code = child.process.poll()
            if code is not None:
                self._ended(child, code)
        elif time.monotonic() >= child.next_start_s:
            self._start(child)

    def _ended(self, child: Child, code: int) -> None:
        self._forget(child)
        if code in (USAGE, UNUSABLE):
            if code == UNUSABLE or self._source is None:
                self._exit_code = USAGE
                self._stopping.make()
                return
            if all(one.next_start_s != float("inf") for one in self._children):
                self._speech.say("[yellow]waiting for a change of the source[/]", logging.WARNING)
            child.next_start_s = float("inf")
            return
        now = time.monotonic()
        if now - child.started_s >= HEALTHY_S:
            child.backoff_s = FIRST_BACKOFF_S
        child.next_start_s = now + child.backoff_s
        died = f"[red]worker {child.index} died[/] ({_how(code)}): restarting in {child.backoff_s:g} s"
        self._speech.say(died, logging.ERROR)
        child.backoff_s = min(child.backoff_s * 2, LONGEST_BACKOFF_S)

    def _reload(self) -> None:
        if self._source is None:
            return
        for child in self._children:
            if child.sources is not None:
                self._source.add(child.sources.files())
        path = self._source.changed()
        if path is None:
            return
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        self._speech.say(f"[cyan]{escape(str(shown))} changed:[/] restarting")
        self._drain(self._children)
        self._give_word()
        for child in self._children:
            child.next_start_s = 0.0
            child.backoff_s = FIRST_BACKOFF_S
            self._start(child)

    def _start(self, child: Child) -> None:
        theirs, child.lifeline = os.pipe()
        command = [sys.executable, "-P", "-m", "odradek_runtime.cli", "worker", self._reference, "--lifeline", str(theirs)]
        command += ["--index", str(child.index), "--workers", str(len(self._children))]
        command += ["--voice", str(self._voice[0])] if self._voice else []
        command += ["--debug"] if self._debug else []
        given = [theirs, *self._voice[:1]]
        if self._source is not None:
            reading, writing = os.pipe()
            child.sources = SourceReader(reading)
            given.append(writing)
            command += ["--sources", str(writing)]
        try:
            with _ctrl_c_held():
                child.process = subprocess.Popen(command, pass_fds=given)  # noqa: S603 - this very program
        finally:
            os.close(theirs)
            if self._source is not None:
                os.close(given[-1])
        child.started_s = time.monotonic()
        try:
            os.write(child.lifeline, encode_settings(child.settings) + b"\n")
        except BrokenPipeError:
            # It died at once; the next look at it says how.
            return

    def _stop_all(self) -> None:
        running = [child for child in self._children if child.process is not None]
        if running and not self._exit_code:
            self._speech.say("[dim]stopping: finishing the epoch and handing over …[/]")
        clean = self._drain(running)
        if not clean and not self._exit_code:
            self._exit_code = FAILED

    def _drain(self, children: Sequence[Child]) -> bool:
        """SIGTERM to all, then wait; what is left after the deadline is killed. True when none had to be."""
        clean = True
        for child in children:
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + DRAIN_S
        for child in children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._speech.say(f"[red]worker {child.index} did not stop within {DRAIN_S:g} s:[/] killed", logging.ERROR)
                child.process.kill()
                child.process.wait()
                clean = False
            self._forget(child)
        return clean

    def _forget(self, child: Child) -> None:
        child.process = None
        os.close(child.lifeline)
        if child.sources is not None and self._source is not None:
            self._source.add(child.sources.files())
            child.sources.close()
            child.sources = None

    @contextmanager
    def _voices(self) -> Generator[None]:
        self._voice = os.pipe() if len(self._children) > 1 else ()
        for end in self._voice:
            os.set_blocking(end, False)
        try:
            yield
        finally:
            for end in self._voice:
                os.close(end)

    def _give_word(self) -> None:
        """There is one byte in the pipe, whether or not somebody has taken the last one."""
        if self._voice:
            with suppress(BlockingIOError):
                os.read(self._voice[0], 1)
            os.write(self._voice[1], b"!")

    @contextmanager
    def _signals(self) -> Generator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            if self._stopping.made:
                for child in self._children:
                    if child.process is not None:
                        child.process.kill()
            self._stopping.make()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _ctrl_c_held() -> Generator[None]:
    """A worker started herein is born deaf to Ctrl-C, until it has set its own signals; here it comes a moment later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def encode_settings(settings: Settings) -> bytes:
    """One line for the lifeline; never on the command line, where everybody reads passwords."""
    return msgspec.json.encode(settings, enc_hook=str)


def decode_settings(line: bytes) -> Settings:
    """Inverse of `encode_settings`."""
    return msgspec.json.decode(line, type=Settings, dec_hook=lambda kind, value: kind(value))


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
