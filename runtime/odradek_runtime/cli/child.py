"""One worker process: settings through the lifeline, the app, a node, and then it watches until it is told to stop."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

import typer

from odradek_runtime.cli.announce import Announcer
from odradek_runtime.cli.appref import load_app
from odradek_runtime.cli.connect import make_data_dir
from odradek_runtime.cli.errors import FAILED, UNUSABLE, USAGE, CommandError
from odradek_runtime.cli.forked import end_in_time, keep_from_forks, log_ports
from odradek_runtime.cli.logs import set_up_logging
from odradek_runtime.cli.reload import SourceReport
from odradek_runtime.cli.speech import errors_told
from odradek_runtime.cli.stop import StopRequest
from odradek_runtime.cli.supervisor import decode_settings
from odradek_runtime.http.ingress.sockets import PortError
from odradek_runtime.log.port import LogError
from odradek_runtime.store.allocator import give_back_what_is_freed
from odradek_runtime.worker.restore.startup import StartupError

if TYPE_CHECKING:
    from odradek_runtime.configuration.settings import Settings
    from odradek_runtime.node.node import Node

logger = logging.getLogger("odradek")

WATCH_S = 0.25
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 15.0
"""Between tries to reach a log that is away when the worker starts."""


class CutShort(BaseException):
    """SIGTERM came while the worker was starting. No Exception, for the app that is being imported not to take it for one."""


def run_worker(reference: str, *, lifeline: int, index: int, workers: int, voice: int, sources: int) -> None:
    """Blocks until SIGTERM or the supervisor's end. Raises CommandError: it cannot start, or the engine died."""
    give_back_what_is_freed()
    stopping = StopRequest()
    starting = Starting()
    _listen(stopping, starting)
    os.set_inheritable(lifeline, False)
    pipe = os.fdopen(lifeline, "rb")
    line = pipe.readline()
    if not line:
        return  # the supervisor is gone already
    settings = decode_settings(line)
    threading.Thread(target=_watch_supervisor, args=(pipe.fileno(), stopping), name="odradek-lifeline", daemon=True).start()
    with errors_told(settings), suppress(CutShort):
        try:
            _serve(reference, settings, stopping, starting, SourceReport(sources), index=index, workers=workers)
        except CommandError as error:
            if error.code in (USAGE, UNUSABLE) and not takes_word(voice):
                raise typer.Exit(error.code) from None
            raise


def takes_word(voice: int) -> bool:
    """Whether this worker is to say why it cannot start: the first that asks. The others most likely fail alike."""
    if voice < 0:
        return True
    try:
        return bool(os.read(voice, 1))
    except BlockingIOError:
        return False


class Starting:
    """Whether the worker is still starting: SIGTERM then ends it where it is, nothing having begun that must be finished."""

    def __init__(self) -> None:
        self._going_on = True

    def cut_short(self) -> None:
        """Called by the signal's handler. Raises CutShort, once, and only in the start."""
        if self._going_on:
            self._going_on = False
            raise CutShort

    def over(self) -> None:
        """From now on a stop hands over in order."""
        self._going_on = False


def _serve(
    reference: str,
    settings: Settings,
    stopping: StopRequest,
    starting: Starting,
    report: SourceReport,
    *,
    index: int,
    workers: int,
) -> None:
    if settings.log_format:  # asked for, so it holds for what the app says while it is imported, too
        set_up_logging(settings)
    try:
        app = load_app(reference)
    finally:
        report.tell(sys.exc_info()[1])
    make_data_dir(settings, code=UNUSABLE)
    set_up_logging(settings)
    # After the app, which is what most often fails: the engine and its web server take a while to load.
    from odradek_runtime.http.admin.siblings import Place
    from odradek_runtime.node.node import Node

    announcer = Announcer(reference, app, settings, index=index, workers=workers)
    place = Place(index, workers)
    node = _started(lambda: Node(app, settings, place=place, reference=reference), settings, announcer, stopping)
    starting.over()
    if node is None:
        return
    _tune_interpreter()
    keep_from_forks(node.ports, log_ports(settings.bootstrap_servers))
    code = FAILED
    try:
        announcer.started(node)
        while not stopping.wait(WATCH_S):
            failed = node.worker.failed
            if failed is not None:
                hopeless = isinstance(failed, LogError) and not failed.retriable
                raise CommandError(f"the engine stopped: {failed}", code=UNUSABLE if hopeless else FAILED) from failed
            announcer.look(node)
            report.tell()
        code = 0
    finally:
        node.stop()
        end_in_time(code)


def _started(make: Callable[[], Node], settings: Settings, announcer: Announcer, stopping: StopRequest) -> Node | None:
    """A running node, after waiting for a log that cannot be reached; None when it was told to stop meanwhile."""
    wait_s = FIRST_WAIT_S
    while not stopping.made:
        try:
            node = make()
            node.start()
        except PortError as error:
            raise CommandError(str(error), code=UNUSABLE) from None
        except StartupError as error:
            raise CommandError(str(error), code=USAGE) from None
        except (TypeError, ValueError) as error:
            raise CommandError(f"the app cannot be started: {error}", code=USAGE) from error
        except LogError as error:
            if not error.retriable:
                raise CommandError(str(error), code=UNUSABLE) from None
            announcer.waiting(str(error), wait_s)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            announcer.waiting(f"{error.strerror}: {error.filename or settings.data_dir}; free some space", wait_s)
        else:
            return node
        stopping.wait(wait_s)
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)
    return None


def _tune_interpreter() -> None:
    """An epoch is tens of thousands of small objects that die together: the collector's defaults walk them again and again (10 %).

    The commit thread must get its turn within a millisecond, not five, for short commits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    sys.setswitchinterval(0.001)


def _listen(stopping: StopRequest, starting: Starting) -> None:
    """SIGTERM drains, or ends a start. Ctrl-C reaches the supervisor too, which sends SIGTERM: here it would come twice.

    The supervisor had Ctrl-C held back until now; what the app starts of its own need not inherit that.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.make()
        starting.cut_short()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, _ignore)  # not SIG_IGN, which programs that a step starts would inherit
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, stop)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C is the supervisor's."""


def _watch_supervisor(descriptor: int, stopping: StopRequest) -> None:
    """The other end closes when the supervisor is gone, however it ended."""
    while os.read(descriptor, 1):
        continue
    if not stopping.made:
        logger.warning("the supervisor is gone: stopping")
        os.kill(os.getpid(), signal.SIGTERM)
