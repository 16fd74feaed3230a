"""Clearing: the state of whole objects is deleted, in the changelog, of an app that stands still.

Part of a reset (`repositioning`), before the positions move: what is read again finds no state then. Every shard's state topic is
read through once, and each key of the objects gets a deletion, under the epoch that the shard has closed last. A worker's store
follows when it takes the shard over. Interrupted, the same command goes on: what is deleted is not there to be deleted again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from odradek_runtime.core.records import keys
from odradek_runtime.log.port import Log, Partition, Transaction

from .reset_plan import Standing

BATCH = 2_000
"""Deletions in one transaction."""


def objects_in(log: Log, app: str, seen: Callable[[int], None] = lambda records: None) -> Counter[str]:
    """Blocks. Object -> how many values of it the app's state has. `seen` is told of each batch read. Raises LogError."""
    found: Counter[str] = Counter()
    info = log.topic(f"{app}.state")
    for number in range(info.partitions if info is not None else 0):
        live = set[bytes]()
        partition = Partition(f"{app}.state", number)
        for batch in log.scan(partition, *log.offsets(partition)):
            for message in batch:
                key = message.key() or b""
                (live.add if message.value() is not None else live.discard)(key)
            seen(len(batch))
        found.update(_object(key) for key in live)
    return found


def deletions(log: Log, app: str, found: Standing, stamp: int, objects: Sequence[str]) -> Iterator[Transaction]:
    """The transactions that delete a shard's part of these objects' state; their epochs are numbered from 1. Raises LogError."""
    assert found.positions is not None, "it was looked for"
    prefixes = tuple(keys.state_prefix(name)[1:] for name in objects)
    closed = f"{found.positions.incarnation}.{found.positions.epoch}".encode()
    partition = Partition(f"{app}.state", found.shard)
    commands = Partition(f"{app}.commands", found.shard)
    at = next((place.offset for place in found.positions.inputs if (place.topic, place.partition) == commands), 0)
    open_ = dict[bytes, None]()
    epoch = 0
    for batch in log.scan(partition, *log.offsets(partition)):
        for message in batch:
            key = message.key() or b""
            if key.startswith(prefixes) and message.value() is not None:
                open_[key] = None
        if len(open_) >= BATCH:
            epoch += 1
            yield _transaction(epoch, found.shard, stamp, list(open_), closed, (commands, at))
            open_.clear()
    if open_:
        yield _transaction(epoch + 1, found.shard, stamp, list(open_), closed, (commands, at))


def _transaction(
    epoch: int, shard: int, stamp: int, found: Sequence[bytes], closed: bytes, fence: tuple[Partition, int]
) -> Transaction:
    transaction = Transaction(epoch, {shard: stamp})
    transaction.state[shard] = [(key, None) for key in found]
    transaction.state_headers[shard] = [("odradek", closed)]
    transaction.offsets[fence[0]] = fence[1]
    return transaction


def _object(key: bytes) -> str:
    return keys.unescape(key.partition(b"/")[0]).decode("utf-8", "replace")
