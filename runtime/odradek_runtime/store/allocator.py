"""The C allocator of a worker's process: memory that is freed goes back to the system.

glibc keeps what it was once asked for: every large block that is freed raises the size from which blocks are given back at all,
up to 32 MiB, and each thread has a heap of its own. A worker that had held 128 MiB of requests kept 0.6 GB for good.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""mallopt(3): larger blocks are mapped one by one, and given back one by one. To set it ends its growth, too."""
LARGE_BYTES: Final = 64 * 1024


def give_back_what_is_freed() -> bool:
    """For this process, from now on. False where that is not glibc's to decide, or the environment has decided it."""
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
