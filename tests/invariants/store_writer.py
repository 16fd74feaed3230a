"""A process to be killed: it writes a store as an engine does, data first, then a position alone, and waits.

Stands where a worker stands whose shard went quiet right after a take-over.
"""

import sys
import time
from pathlib import Path

from odradek_runtime.core.records import keys
from odradek_runtime.store.store import RocksStore

BATCHES = 20


def main(directory: Path) -> None:
    """Write and say so."""
    store = RocksStore(directory)
    for number in range(BATCHES):
        store.write([(b"s%d" % number, b"v"), (b"x%d" % number, None)])
        store.write([(keys.STORE_POSITION, b"%d" % (number + 1))])
    sys.stdout.write("written\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
