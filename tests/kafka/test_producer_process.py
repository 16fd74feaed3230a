"""Producers in processes of their own: killed or frozen at any moment they lose and double nothing, nor outlive their worker."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path

import msgspec
import pytest

from odradek_runtime.log.kafka import KafkaLog, committer, remote_producer, writer
from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.contents import Initialise, Opening
from odradek_runtime.log.kafka.framing import send_frame
from odradek_runtime.log.kafka.producer_process import NICENESS
from odradek_runtime.log.kafka.remote_producer import PROGRAM, RemoteProducer
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import Log, LogError, Output, Partition, Refused, Trouble
from tests.contract.station import Station, values
from tests.kafka.processes import alive, producers_of, suspend
from tests.kafka.raw import eventually

Join = Callable[[Log, str], Station]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def station(log: KafkaLog, app: str, join: Join) -> Station:
    """A member that owns both shards, and whose producers have their processes."""
    station = join(log, app).own({0, 1})
    eventually(lambda: len(producers_of(os.getpid())) == 2)
    return station


@pytest.fixture
def impatient(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaLog]:
    """A log whose watchdog gives up after three seconds: a healthy commit must not take so long on a busy machine."""
    monkeypatch.setattr(writer, "GRACE_S", 0.2)
    monkeypatch.setattr(committer, "LOOK_S", 0.1)
    log = KafkaLog(kafka, transaction_timeout_s=3.0)
    yield log
    log.close()


@pytest.fixture
def freeze() -> Iterator[Callable[[], list[int]]]:
    """`freeze()` stops this worker's producers where they are, and gives their processes; none outlives the test."""
    frozen: list[int] = []

    def stop() -> list[int]:
        stopped = producers_of(os.getpid())
        for process in stopped:
            suspend(process)
        frozen.extend(stopped)
        return stopped

    yield stop
    for process in filter(alive, frozen):
        os.kill(process, signal.SIGKILL)


def threads_of(process: int) -> list[str]:
    return [(thread / "comm").read_text().strip() for thread in Path(f"/proc/{process}/task").iterdir()]


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    eventually(lambda: not alive(process))


def test_processes_killed_between_transactions_are_replaced(log: KafkaLog, topic: str, station: Station) -> None:
    for value in (b"1", b"2", b"3"):
        killed = producers_of(os.getpid())
        assert len(killed) == 2
        for process in killed:
            kill(process)
        station.committed(station.transaction([0], [Output(topic, 0, b"k", value)]))
        station.committed(station.transaction([0], [Output(topic, 0, b"k", value + b"'")]))

    assert values(log, Partition(topic, 0)) == [b"1", b"1'", b"2", b"2'", b"3", b"3'"]


@pytest.mark.parametrize(
    ("holder", "call", "reason"), [(remote_producer, "send_frame", "aborted"), (RemoteProducer, "commit", "unknown")]
)
def test_a_process_killed_in_a_transaction_leaves_nothing_of_it(
    log: KafkaLog, topic: str, station: Station, monkeypatch: pytest.MonkeyPatch, holder: object, call: str, reason: str
) -> None:
    """When it has got the records, or before the commit reaches it: the worker cannot tell the latter from one that did commit."""
    monkeypatch.setattr(writer, "IDLE_S", 60.0)  # nothing else is asked of it
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    asked = getattr(holder, call)
    killed: list[int] = []

    def kill_all() -> None:
        killed.extend(producers_of(os.getpid()))
        for process in killed:
            kill(process)

    def killed_meanwhile(*arguments: object) -> object:
        if killed:
            return asked(*arguments)
        if holder is RemoteProducer:
            kill_all()
            return asked(*arguments)
        for process in producers_of(os.getpid()):
            suspend(process)  # it does not come to answer
        asked(*arguments)
        kill_all()
        return None

    with monkeypatch.context() as patched:
        patched.setattr(holder, call, killed_meanwhile)
        refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"killed")]))

    assert (refused.reason, refused.poison) == (reason, False)
    assert "signal 9" in refused.message
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    assert values(log, Partition(topic, 0)) == [b"before", b"after"]


@pytest.mark.parametrize(("when", "reason"), [("fill", "aborted"), ("commit", "unknown")])
def test_a_frozen_process_is_given_up_and_ended(
    impatient: KafkaLog,
    app: str,
    topic: str,
    join: Join,
    monkeypatch: pytest.MonkeyPatch,
    freeze: Callable[[], list[int]],
    when: str,
    reason: str,
) -> None:
    station = join(impatient, app).own({0, 1})
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    asked = getattr(RemoteProducer, when)
    frozen: list[int] = []

    def frozen_first(producer: RemoteProducer, *contents: object) -> object:
        if not frozen:
            frozen.extend(freeze())
        return asked(producer, *contents)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteProducer, when, frozen_first)
        refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"frozen")]))

    assert (refused.reason, refused.poison) == (reason, False)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    eventually(lambda: not any(alive(process) for process in frozen))
    station.silence(Refused)
    assert values(impatient, Partition(topic, 0)) == [b"before", b"after"]
    station.leave()


def test_processes_frozen_before_they_are_asked_anything_are_given_up(
    impatient: KafkaLog, app: str, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch, freeze: Callable[[], list[int]]
) -> None:
    monkeypatch.setattr(writer, "IDLE_S", 60.0)  # nobody looks at them in between
    station = join(impatient, app).own({0, 1})
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    frozen = freeze()

    refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"frozen")]))

    assert (refused.reason, refused.poison) == ("aborted", False), "asked whether it is in doubt it did not answer"
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    eventually(lambda: not any(alive(process) for process in frozen))
    assert values(impatient, Partition(topic, 0)) == [b"before", b"after"]
    station.leave()


def test_a_process_frozen_while_nothing_is_to_be_done_is_replaced(
    impatient: KafkaLog, app: str, topic: str, join: Join, freeze: Callable[[], list[int]]
) -> None:
    station = join(impatient, app).own({0, 1})
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    frozen = freeze()

    eventually(lambda: not any(alive(process) for process in frozen))
    eventually(lambda: len(producers_of(os.getpid())) == 2)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    assert values(impatient, Partition(topic, 0)) == [b"before", b"after"]
    station.leave()


def test_a_member_that_leaves_takes_its_processes_along(log: KafkaLog, topic: str, station: Station) -> None:
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"v")]))
    assert len(producers_of(os.getpid())) == 2

    station.leave()

    assert producers_of(os.getpid()) == []


def test_a_member_leaves_though_its_processes_do_not_answer(
    impatient: KafkaLog, app: str, join: Join, freeze: Callable[[], list[int]]
) -> None:
    station = join(impatient, app).own({0, 1})
    eventually(lambda: len(producers_of(os.getpid())) == 2)
    freeze()
    station.member.commit(station.transaction([0], []))

    station.leave()

    assert producers_of(os.getpid()) == []
    assert not any(thread.name == "odradek-commit" for thread in threading.enumerate())


@pytest.mark.usefixtures("station")
def test_the_engine_goes_before_its_producers() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for process in producers_of(os.getpid()):
        eventually(lambda process=process: os.getpriority(os.PRIO_PROCESS, process) == min(own + NICENESS, 19))


def test_a_killed_workers_processes_end(kafka: str, app: str, topic: str) -> None:
    command = [sys.executable, "-m", "tests.kafka.pending_worker", kafka, app, topic]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"pending\n"
        processes = producers_of(worker.pid)
        assert len(processes) == 2
        worker.kill()

    eventually(lambda: not any(alive(process) for process in processes))


def test_a_process_ends_in_the_middle_of_a_call_when_its_socket_closes() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, *PROGRAM, str(theirs.fileno()), str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        opening = Opening("127.0.0.1:9", {}, "id", 10.0, 1_000, verbose=False)
        send_frame(ours, msgspec.msgpack.encode(Initialise(opening, "nowhere", 600.0)))
        eventually(lambda: "rdk:main" in threads_of(process.pid))  # it has begun

        ours.close()

        assert process.wait(30) == 0


def test_an_orphan_ends_though_its_socket_stays_open() -> None:
    """What a fork of the worker would do to it: the other end is held here, and its parent is not this process."""
    ours, theirs = socket.socketpair()
    script = (
        "import os, subprocess, sys\n"
        f"command = [sys.executable, *{PROGRAM!r}, '{theirs.fileno()}', str(os.getpid())]\n"
        f"child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[{theirs.fileno()}])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", script]
    with ours, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()]) as parent:
        theirs.close()
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert alive(process)
        parent.communicate()
        eventually(lambda: not alive(process))


def test_a_process_is_given_up_though_a_fork_holds_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[socket.socket] = []

    def connected() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        held.append(theirs.dup())
        return ours, theirs

    monkeypatch.setattr(remote_producer, "connected", connected)
    monkeypatch.setattr(remote_producer, "PROGRAM", ("-c", "import time; time.sleep(600)"))
    producer = RemoteProducer(Clients("stub:9092", {}), TroubleReporter("stub:9092"), "id", 10.0, 1_000)
    doubts: list[bool] = []
    asking = threading.Thread(target=lambda: doubts.append(producer.doubtful))
    asking.start()

    producer.abandon()

    asking.join(30)
    assert doubts == [True]
    producer.discard()
    held[0].close()


def test_what_is_printed_there_does_no_harm(
    log: KafkaLog, app: str, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    noisy = "print('noise', flush=True); from odradek_runtime.log.kafka import producer_process; producer_process.main()"
    monkeypatch.setattr(remote_producer, "PROGRAM", ("-c", noisy))
    station = join(log, app).own({0, 1})

    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"v")]))
    assert values(log, Partition(topic, 0)) == [b"v"]
    assert "a producer's process says: noise" in caplog.messages


def test_signals_of_a_terminal_do_not_end_it(log: KafkaLog, topic: str, station: Station) -> None:
    """Ctrl-C reaches the whole group: the worker then commits its last epoch, for which it needs its producer."""
    for _ in range(2):
        station.committed(station.transaction([0], [Output(topic, 0, b"k", b"v")]))
    processes = producers_of(os.getpid())
    for process in processes:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process, number)

    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"v")]))
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"v")]))
    assert producers_of(os.getpid()) == processes


def test_a_value_that_is_not_bytes_is_poison_and_named(log: KafkaLog, topic: str, station: Station) -> None:
    for value in ("text", object(), 2**70):
        bad = Output(topic, 0, b"k", value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"good"), bad]))
        assert (refused.reason, refused.poison) == ("aborted", True), refused
        station.committed(station.transaction([0], [Output(topic, 0, b"k", b"next")]))

    assert values(log, Partition(topic, 0)) == [b"next"] * 3


class Bytes(bytes):
    """As libraries derive them: HexBytes, numpy's bytes_."""


class Text(str):
    """The same of str."""

    __slots__ = ()


class Number(IntEnum):
    """And of int."""

    ZERO = 0


def test_values_of_derived_classes_are_what_they_are_derived_from(log: KafkaLog, topic: str, station: Station) -> None:
    transaction = station.transaction([0], [Output(topic, Number.ZERO, Bytes(b"k"), Bytes(b"v"), [(Text("name"), Bytes(b"h"))])])
    transaction.state[0] = [(Bytes(b"key"), Bytes(b"value"))]

    station.committed(transaction)

    (batch,) = log.scan(Partition(topic, 0), 0, 1)
    assert [(message.key(), message.value(), message.headers()) for message in batch] == [(b"k", b"v", [("name", b"h")])]


def test_an_option_that_is_not_text_is_refused_and_not_told() -> None:
    secret = "hunter2\udcff"  # noqa: S105 - a variable of the environment that is not UTF-8
    producer = RemoteProducer(Clients("stub:9092", {"sasl.password": secret}), TroubleReporter("stub:9092"), "id", 10.0, 1_000)

    with pytest.raises(LogError, match="not text") as refused:
        producer.initialise(None, 10.0)

    assert not refused.value.retriable
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    producer.discard()


def test_a_refused_option_is_told_and_fatal(kafka: str, app: str, join: Join) -> None:
    log = KafkaLog(kafka, options={"max.in.flight.requests.per.connection": "10"})  # too many for a transaction
    trouble = join(log, app).wait(Trouble, lambda event: event.fatal)

    assert "max.in.flight" in trouble.message
    log.close()


TALKATIVE = """
import logging
import socket
import sys
import msgspec
from odradek_runtime.log.kafka.contents import Done
from odradek_runtime.log.kafka.framing import receive_frame, send_frame
from odradek_runtime.log.kafka.producer_process import Gathered, Said

said = Said()
said.listen()
Gathered("stub:9092", said).tell("tls", "no TLS connection")
logging.getLogger("odradek.kafka").debug("%s [%s]", "FAIL", "producer-1")
link = socket.socket(fileno=int(sys.argv[1]))
while True:
    receive_frame(link)
    send_frame(link, msgspec.msgpack.encode(said.reply(Done(yes=False))))
"""


def test_what_a_process_says_is_told_by_its_worker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(remote_producer, "PROGRAM", ("-c", TALKATIVE))
    told: list[str] = []
    trouble = TroubleReporter("stub:9092")
    trouble.sink = lambda event: told.append(event.message)
    with caplog.at_level(logging.DEBUG, "odradek.kafka"):
        producer = RemoteProducer(Clients("stub:9092", {}), trouble, "id", 10.0, 1_000)

        assert not producer.doubtful
        assert told == ["no TLS connection"]
        assert [record.message for record in caplog.records] == ["FAIL [producer-1]"]
        assert not producer.doubtful
        assert len(told) == len(caplog.records) == 1, "it is said once"
    producer.discard()


def test_a_program_that_does_not_start_is_said_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(LogError, match="producer_processes"):
        RemoteProducer(Clients("stub:9092", {}), TroubleReporter("stub:9092"), "id", 10.0, 1_000)


def test_what_ends_a_process_is_a_record_of_its_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its traceback: a log in JSON has no other lines."""
    broken = "from odradek_runtime.log.kafka import producer_process as here; here.Service.reply = None; here.main()"
    monkeypatch.setattr(remote_producer, "PROGRAM", ("-c", broken))
    producer = RemoteProducer(Clients("stub:9092", {}), TroubleReporter("stub:9092"), "id", 10.0, 1_000)

    with pytest.raises(LogError, match="exit status 1: what it said is in the log"):
        producer.initialise(None, 10.0)

    eventually(lambda: bool(caplog.records))
    (said,) = caplog.messages
    assert said.startswith("a producer's process says: Traceback (most recent call last):\n")
    assert said.endswith("TypeError: 'NoneType' object is not callable")
    assert capfd.readouterr() == ("", "")
    producer.discard()


def test_a_program_that_ends_at_once_is_a_producer_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_producer, "PROGRAM", ("-c", "raise SystemExit(5)"))
    producer = RemoteProducer(Clients("stub:9092", {}), TroubleReporter("stub:9092"), "id", 10.0, 1_000)

    with pytest.raises(LogError, match="exit status 5"):
        producer.initialise(None, 10.0)
    assert producer.doubtful
    assert not producer.abort()
    producer.discard()
    producer.discard()
