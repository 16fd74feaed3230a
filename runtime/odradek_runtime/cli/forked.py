"""What becomes of processes that a worker's steps start: they take nothing of its own along, and do not hold up its end.

A program that is executed gets no descriptors (Python's are closed there) and the signals' defaults. A process that is merely
forked, as by `multiprocessing`, would keep the worker's sockets open and its handlers set: the port stays taken when the worker
has gone, and a SIGTERM to that process would be noted and come to nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress

from odradek_runtime.cli.logs import as_line

HANDLED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
END_S = 5.0
"""How long threads and processes that the app has left may take to end when the worker has handed over."""


def keep_from_forks(ports: Collection[int], log_ports: Collection[int]) -> None:
    """From now on a fork of this process has the signals' defaults, and none of the sockets at these ports.

    `ports`: of this worker, listening and connected ones alike. `log_ports`: where its log listens.
    """
    before = threading.local()

    def hold() -> None:  # a signal to the fork must not come while it still has our handlers
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def begin() -> None:
        try:
            _reset_signals()
            _let_go(ports, log_ports)
        finally:
            release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=begin)


def _reset_signals() -> None:
    for number in HANDLED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def log_ports(bootstrap_servers: str) -> set[int]:
    """Where Kafka listens, as far as the setting says."""
    ports = [server.rpartition(":")[2] for server in bootstrap_servers.split(",")]
    return {int(port) for port in ports if port.isdigit()}


def _let_go(ports: Collection[int], log_ports: Collection[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  (between a fork and its first line: no more than needed)
        with suppress(OSError):
            descriptor = int(name)
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _is_ours(descriptor, ports, log_ports):
                # Not closed: the objects that hold the number would close what gets it next.
                os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _is_ours(descriptor: int, ports: Collection[int], log_ports: Collection[int]) -> bool:
    sock = socket.socket(fileno=descriptor)
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        if sock.getsockname()[1] in ports:
            return True
        return bool(log_ports) and sock.getpeername()[1] in log_ports
    finally:
        sock.detach()


def end_in_time(code: int) -> None:
    """From now on this process has so long to end by itself: what the app has left running does not keep it."""
    threading.Thread(target=_end, args=(code,), name="odradek-end", daemon=True).start()


def _end(code: int) -> None:
    time.sleep(END_S)
    threads = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    processes = [f"{child.name} ({child.pid})" for child in multiprocessing.active_children()]
    left = "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in (("threads", threads), ("processes", processes)) if names
    )
    with suppress(OSError, ValueError):
        said = f"stopped without waiting any longer for what the app has left running ({left or 'its own atexit'})"
        sys.stderr.write(as_line(said) + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
