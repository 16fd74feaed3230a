"""The store of a shard: RocksDB in a folder that belongs to one process."""
