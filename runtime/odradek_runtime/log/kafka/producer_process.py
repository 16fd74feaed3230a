"""The other end of a `RemoteProducer`: a process that holds one producer and does what it is asked, one thing at a time.

    python -P -m odradek_runtime.log.kafka.producer_process DESCRIPTOR PARENT

The descriptor is a socket: requests come on it and replies leave. The process ends at once when it closes or its parent changes, in
the middle of whatever it does: its worker is dead then, or has given it up, and whoever comes after settles the rest.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque

import msgspec
from confluent_kafka import KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.contents import (
    Abort,
    ClientFailed,
    Commit,
    Contents,
    Done,
    Doubt,
    Initialise,
    LogFailed,
    Opening,
    Outcome,
    Reply,
    Request,
    TransactionFailed,
)
from odradek_runtime.log.kafka.errors import cause
from odradek_runtime.log.kafka.framing import receive_frame, send_frame
from odradek_runtime.log.kafka.producer import TransactionalProducer, TransactionFailedError
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Refusal

ORPHAN_LOOK_S = 2.0
"""A process that the worker has forked may hold the socket open after the worker's death; whose child this is tells of it, too."""
NICENESS = 5
"""Added to the worker's: else, where cores are few, each of its wake-ups takes one from the engine, which then waits a tenth of
its time. It still gets a third of what the engine gets when there is nothing else to have, and the engine waits for it then.
"""
KEPT = 1_000
"""Troubles, and log lines, between two replies; the oldest go first."""


class Said(logging.Handler):
    """What was said since the last reply, and leaves with the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.troubles: deque[tuple[str, str, bool, Refusal | None]] = deque(maxlen=KEPT)
        self.lines: deque[str] = deque(maxlen=KEPT)

    def listen(self) -> None:
        """Take the client library's log lines."""
        library = logging.getLogger("odradek.kafka")
        library.setLevel(logging.DEBUG)
        library.propagate = False
        library.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a log line."""
        self.lines.append(record.getMessage())

    def reply(self, outcome: Outcome) -> Reply:
        """The outcome with everything that was said before it."""
        reply = Reply(outcome, list(self.troubles), list(self.lines))
        self.troubles.clear()
        self.lines.clear()
        return reply


class Gathered(TroubleReporter):
    """Troubles for the worker, which knows what it told a moment ago."""

    def __init__(self, servers: str, said: Said) -> None:
        super().__init__(servers)
        self._said = said

    def tell(self, kind: str, message: str, *, fatal: bool = False, refusal: Refusal | None = None) -> None:
        """Keep it for the next reply."""
        self._said.troubles.append((kind, message, fatal, refusal))


def main() -> None:
    """Serve until the input closes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker hears of it; it needs this process to finish its epoch
    os.nice(NICENESS)
    gc.set_threshold(100_000, 50, 100)  # an epoch's records come and go at once
    link = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_serve, args=(link,), name="odradek-producer", daemon=True).start()
    threading.Thread(target=_watch_parent, args=(int(sys.argv[2]),), name="odradek-parent", daemon=True).start()
    _watch_link(link)


def _watch_link(link: socket.socket) -> None:
    """End when the other side has closed, whatever the serving thread is at. What comes to be read wakes only that one."""
    end = select.poll()
    end.register(link, 0)
    end.poll()
    os._exit(0)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_LOOK_S)
    os._exit(0)


def _serve(link: socket.socket) -> None:
    """Answer each request. An error of this file ends the process, which the worker takes for a producer that failed."""
    try:
        service = Service()
        while True:
            reply = service.reply(receive_frame(link))
            send_frame(link, msgspec.msgpack.encode(reply))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  (a thread that dies alone would leave a process that never answers)
        traceback.print_exc()
        os._exit(1)


class Service:
    """One producer, and what it says."""

    def __init__(self) -> None:
        self._decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
        self._producer: TransactionalProducer | None = None
        self._said = Said()

    def reply(self, frame: bytes) -> Reply:
        """Do what is asked."""
        try:
            outcome: Outcome = self._answer(self._decoder.decode(frame))
        except msgspec.ValidationError as error:  # a record whose key or value is not bytes
            outcome = TransactionFailed("aborted", f"a record cannot be produced: {error}", poison=True, spent=True)
        except TransactionFailedError as error:
            outcome = TransactionFailed(error.reason, str(error), error.poison, error.spent, error.refusal)
        except KafkaException as error:
            reason = cause(error)
            outcome = ClientFailed(reason.code(), reason.str(), reason.fatal())
        except LogError as error:
            outcome = LogFailed(str(error), error.retriable)
        return self._said.reply(outcome)

    def _answer(self, request: Request) -> Done:
        if isinstance(request, Initialise):
            self._producer = self._open(request.opening)
            try:
                self._producer.initialise(request.topic, request.timeout_s)
            except KafkaException:
                _ = self._producer.doubtful  # the client is polled: its error callbacks say why
                raise
            return Done()
        producer = self._producer
        assert producer is not None, "the first request initialises"
        match request:
            case Contents():
                return Done(producer.fill(request))
            case Commit():
                return Done(ends=[(topic, number, offset) for (topic, number), offset in producer.commit().items()])
            case Doubt():
                return Done(producer.doubtful)
            case Abort():
                return Done(producer.abort())

    def _open(self, opening: Opening) -> TransactionalProducer:
        if opening.verbose:
            self._said.listen()
        clients = Clients(opening.servers, opening.options)
        trouble = Gathered(opening.servers, self._said)
        return TransactionalProducer(clients, trouble, opening.transactional_id, opening.transaction_timeout_s, opening.batch_bytes)


if __name__ == "__main__":
    main()
