"""Internal topics that are deleted on a real Kafka: before a start, and under a running worker. Nothing is lost or doubled."""

from threading import Thread

import pytest

from odradek_runtime.log.port import LogError, Partition
from odradek_runtime.worker.restore import internal
from odradek_runtime.worker.restore.start_anew import start_anew
from odradek_runtime.worker.restore.startup import StartupError
from tests.kafka.life import RECORDS, Life
from tests.kafka.raw import delete_topic, eventually


def test_what_was_deleted_is_not_made_again(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "LOOK_AGAIN_S", 0.05)
    life.run_once()
    for name in internal.NAMES:
        gone = f"{life.prefix}.{name}"
        delete_topic(life.servers, gone)
        eventually(lambda gone=gone: life.log.topic(gone) is None)
        with pytest.raises(StartupError) as refused:
            life.begin()
        assert gone in str(refused.value) and "--start-anew" in str(refused.value)
        assert life.log.topic(gone) is None
    assert life.counted() == RECORDS

    assert start_anew(life.app(), life.log, [life.folder / "0"], make="nothing") == 2
    life.begin()
    eventually(lambda: life.counted() == 2 * RECORDS)


@pytest.mark.parametrize("name", internal.NAMES)
def test_a_topic_deleted_under_a_running_worker_stops_it(life: Life, name: str) -> None:
    worker = life.begin()
    life.feed()
    eventually(lambda: life.counted() == RECORDS)

    delete_topic(life.servers, f"{life.prefix}.{name}")
    life.feed(RECORDS)

    eventually(lambda: worker.failed is not None)
    assert isinstance(worker.failed, LogError)
    assert not worker.failed.retriable
    assert f"{life.prefix}.{name}" in str(worker.failed) and "--start-anew" in str(worker.failed)
    life.stop()
    assert life.log.topic(f"{life.prefix}.{name}") is None
    assert life.log.offsets(Partition(f"{life.prefix}.dead-letters", 0))[1] == 0, "nobody's record is to blame"
    with pytest.raises(StartupError):
        life.begin()


def test_three_workers_that_start_at_once_for_the_first_time(life: Life) -> None:
    """Each may see what another has just made, and written to."""
    starts = [Thread(target=life.begin) for _ in range(3)]
    life.feed()
    for start in starts:
        start.start()
    for start in starts:
        start.join()

    eventually(lambda: life.counted() == RECORDS)
    assert [worker.failed for worker, _ in life._runs] == [None] * 3
