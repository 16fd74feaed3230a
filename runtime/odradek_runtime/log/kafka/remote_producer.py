"""A producer in a process of its own, as the commit thread sees it.

Stands where a `TransactionalProducer` would, and has one at the other end of a socket: handing records to librdkafka then holds
another interpreter's lock, not the engine's. That process has no will of its own. It does what it is asked, and ends when the
socket closes; if it ends by itself, its producer has failed, and is replaced like any other.
"""

from __future__ import annotations

import logging
import operator
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from confluent_kafka import KafkaError, KafkaException

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
    Reply,
    Request,
    TransactionFailed,
)
from odradek_runtime.log.kafka.framing import connected, receive_frame, send_frame
from odradek_runtime.log.kafka.last_words import relay
from odradek_runtime.log.kafka.producer import TransactionFailedError, unproducible
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Partition

logger = logging.getLogger("odradek.kafka")
PROGRAM = ("-P", "-m", "odradek_runtime.log.kafka.producer_process")
"""-P: modules in the folder where the worker runs shadow nothing."""
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
END_S = 1.0


class ProcessEndedError(Exception):
    """The producer's process is gone. `asked`: it may have got what it was asked, and have done it."""

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


class RemoteProducer:
    """A producer under one transactional id, in a process that this makes. Used by one thread, but for `abandon` and `discard`.

    Args: as `TransactionalProducer`.
    """

    def __init__(
        self,
        clients: Clients,
        trouble: TroubleReporter,
        transactional_id: str,
        transaction_timeout_s: float,
        batch_bytes: int,
    ) -> None:
        self.transactional_id = transactional_id
        self.batch_bytes = batch_bytes
        self._trouble = trouble
        self._link, theirs = connected()
        command = [sys.executable, *PROGRAM, str(theirs.fileno()), str(os.getpid())]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            self._link.close()
            raise LogError(f"a process for a producer cannot be started: {error} (setting producer_processes)") from None
        finally:
            theirs.close()
        assert self._process.stdout is not None
        relay(self._process.stdout)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
        self._decoder = msgspec.msgpack.Decoder(Reply)
        verbose = logger.isEnabledFor(logging.DEBUG)
        self._opening = Opening(clients.servers, clients.options, transactional_id, transaction_timeout_s, batch_bytes, verbose)

    @property
    def doubtful(self) -> bool:
        """Whether the coordinator's connection has dropped, or the process has ended: begin nothing more on it."""
        try:
            return self._ask(Doubt()).yes
        except ProcessEndedError:
            return True

    def initialise(self, topic: str | None, timeout_s: float) -> None:
        """Fence and settle whatever was open under this id.

        Raises:
            KafkaException: it could not be done; the producer is to be dropped.
            LogError: an option was refused, or the process has ended; the same.
        """
        try:
            self._ask(Initialise(self._opening, topic, timeout_s))
        except ProcessEndedError as error:
            raise LogError(str(error)) from None
        except (*UNENCODABLE, TransactionFailedError):  # which says the value: it may be a password
            raise LogError("the name or the value of a Kafka option is not text", retriable=False) from None

    def fill(self, contents: Contents) -> bool:
        """Begin a transaction and give it all that it carries. False: its producer is in doubt or gone, and nothing was begun."""
        try:
            request = self._encoder.encode(contents)
        except UNENCODABLE as error:
            raise unproducible(self._culprit(contents), error) from error
        try:
            return self._exchange(request).yes
        except ProcessEndedError as error:  # nobody has asked it to commit
            if not error.asked:
                return False
            raise TransactionFailedError("aborted", str(error), spent=True) from None

    def commit(self) -> Mapping[Partition, int]:
        """End the transaction; returning means that it is committed. Gives where the changelogs end, as far as it was reported."""
        try:
            ends = self._ask(Commit()).ends
        except ProcessEndedError as error:
            raise TransactionFailedError("unknown", f"commit: {error}", spent=True) from None
        return {Partition(topic, number): offset for topic, number, offset in ends}

    def abort(self) -> bool:
        """End the transaction without effect; False if that is not certain, and the producer must be replaced."""
        try:
            return self._ask(Abort()).yes
        except ProcessEndedError:
            return False

    def abandon(self) -> None:
        """End the process: whoever waits for its answer hears of it, though a fork of the worker may hold the other end, too."""
        self._process.kill()
        with suppress(OSError):  # it has gone, or `discard` was here
            self._link.shutdown(socket.SHUT_RDWR)

    def discard(self) -> None:
        """End the process: what it has committed is with the cluster, and nothing else may be."""
        self.abandon()
        self._process.wait()
        self._link.close()

    def _ask(self, request: Request) -> Done:
        return self._exchange(self._encoder.encode(request))

    def _exchange(self, request: bytes) -> Done:
        asked = False
        try:
            send_frame(self._link, request)
            asked = True
            reply = self._decoder.decode(receive_frame(self._link))
        except (OSError, EOFError, msgspec.DecodeError):
            raise ProcessEndedError(f"a producer's process {self._end()}", asked=asked) from None
        for kind, message, fatal, refusal in reply.troubles:
            self._trouble.tell(kind, message, fatal=fatal, refusal=refusal)
        for line in reply.lines:
            logger.debug("%s", line)
        match reply.outcome:
            case Done() as done:
                return done
            case TransactionFailed(reason, message, poison, spent, refusal):
                raise TransactionFailedError(reason, message, poison=poison, spent=spent, refusal=refusal)
            case ClientFailed(code, text, fatal):
                raise KafkaException(KafkaError(code, text, fatal=fatal))
            case LogFailed(message, retriable):
                raise LogError(message, retriable=retriable)

    def _culprit(self, contents: Contents) -> str:
        """The topic of the record that cannot be encoded."""
        for output in contents.outputs:
            try:
                self._encoder.encode(output)
            except UNENCODABLE:
                return output[0]
        return "a changelog"

    def _end(self) -> str:
        """How it ended, in words."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "does not answer"
        return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}: what it said is in the log"


def _plain(value: object) -> object:
    """What msgspec does not take though librdkafka does: values of a class derived from a plain one."""
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        return str.__str__(value)
    return operator.index(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  (TypeError for all else)
