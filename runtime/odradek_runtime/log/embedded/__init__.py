"""The embedded log: the log port on a local RocksDB, for one process."""

from odradek_runtime.log.embedded.log import EmbeddedLog

__all__ = ["EmbeddedLog"]
