"""Pages: a store read by another thread than the engine's, a little at a time, whatever has been deleted between."""

import threading
from pathlib import Path

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.store.store import PAGE_PAIRS, MemoryStore, RocksStore, Store


@pytest.fixture(params=["rocks", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return RocksStore(tmp_path) if request.param == "rocks" else MemoryStore()


def paged(store: Store, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """All pairs, and how many pages they took."""
    found, pages = list[tuple[bytes, bytes]](), 0
    while start < stop:
        pairs, after = store.page(start, stop)
        assert len(pairs) <= PAGE_PAIRS
        assert after >= start
        found, start, pages = [*found, *pairs], after, pages + 1
    return found, pages


def ids(count: int) -> list[bytes]:
    """Of requests without a key: they share their beginning; and one far from the others."""
    return [keys.invocation(f"inv_aaaaaa{number:020d}") for number in range(count)] + [keys.invocation("inv_" + "z" * 26)]


def test_pages_give_everything_in_order(store: Store) -> None:
    pairs = [(key, b"v") for key in ids(1_050)]
    timers = [(keys.timer(due, "inv_" + "b" * 26, 3), b"t") for due in (0, 5, 2**40)]
    store.write([*pairs, *timers, (b"h", b""), (b"j", b""), (b"u", b"")])
    for _ in range(3):
        found, pages = paged(store, b"i", b"j")
        assert (found, pages < 80) == (pairs, True)
        assert paged(store, b"t", b"u")[0] == timers
    store.close()


def test_what_has_been_deleted_is_passed_over_bit_by_bit(store: Store) -> None:
    all_ = ids(30_000)
    store.write([(key, b"v") for key in all_])
    left = {*all_[::7_001], all_[-1]}
    store.write([(key, None) for key in all_ if key not in left])
    for _ in range(3):
        found, pages = paged(store, b"i", b"j")
        assert ([key for key, _ in found], pages < 500) == (sorted(left), True)
    store.close()


def test_a_closed_store_has_none_and_can_be_opened_again(tmp_path: Path) -> None:
    """Its shard moves while another thread reads it."""
    for _ in range(5):
        store = RocksStore(tmp_path)
        store.write([(key, b"v" * 100) for key in ids(2_000)])
        begun = threading.Event()

        def read(store: RocksStore = store, begun: threading.Event = begun) -> None:
            for _ in range(3):
                paged(store, b"i", b"j")
                begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        begun.wait()
        store.close()
        reader.join()
        assert store.page(b"i", b"j") == ([], b"j")
    RocksStore(tmp_path).close()
