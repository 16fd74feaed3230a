"""Starting anew on purpose: everything that an app has of its own is deleted, and its journal says that a new life has begun.

The only way that leads past the refusals of `internal.py`. What comes in and goes out, dead letters included, stays as it is.
Interrupted anywhere, it leaves the app refusing to start until it has been done again: the group's offsets go last.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from odradek import App
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, Positions
from odradek_runtime.log.port import Log, Output, Partition
from odradek_runtime.store.store_folder import stores_of

from .internal import NAMES, held, names
from .startup import Making, StartupError, prepare


def losses(app: App, log: Log, data_dirs: list[Path]) -> list[str]:
    """What would be lost, a line each; empty when there is nothing. Raises LogError."""
    found: list[str] = []
    for name in names(app.name):
        topic = log.topic(name)
        if topic is not None:
            bounds = [log.offsets(Partition(name, number)) for number in range(topic.partitions)]
            found.append(f"{name} ({sum(end - first for first, end in bounds):,} records): {held(name)}")
    found += [f"{stores}: the worker's copy of the state" for stores in _stores(app, data_dirs)]
    inputs = sorted({subscription.topic.name for subscription in app.subscriptions()})
    if inputs:
        found.append(f"the positions in {', '.join(inputs)}: they are read again from start= on")
    return found


def start_anew(app: App, log: Log, data_dirs: list[Path], *, make: Making) -> int:
    """Blocks. Delete what the app has of its own and make its topics again; gives N.

    Other machines' stores are thrown away when their workers start: the new journal names its topics from its first record on.
    Raises StartupError while workers of the app run, and LogError.
    """
    if log.peers(app.name):
        raise StartupError(f"workers of the app {app.name!r} are running: stop them all before starting anew")
    for name in names(app.name):
        log.delete_topic(name)
    for stores in _stores(app, data_dirs):
        shutil.rmtree(stores)
    log.forget_group(app.name)
    shards = prepare(app, log, make=make)
    _found(app.name, log, shards)
    return shards


def _found(app: str, log: Log, shards: int) -> None:
    """The first record of each shard's journal: there was nothing before it, whatever an old store may say."""
    journal, state = (log.topic(f"{app}.{name}") for name in NAMES[:2])
    assert journal is not None, "they have just been made"
    assert state is not None, "they have just been made"
    first = POSITIONS.encode(Positions(shards, 1, 0, 0, int(time.time() * 1000), [], journal.id, state.id))
    publisher = log.publisher(f"{app}.start-anew.{journal.id}")
    try:
        publisher.publish([Output(journal.name, number, keys.POSITIONS, first) for number in range(shards)], 1)
    finally:
        publisher.close()


def _stores(app: App, data_dirs: list[Path]) -> list[Path]:
    return [stores for folder in data_dirs if (stores := stores_of(folder, app.name)).is_dir()]
