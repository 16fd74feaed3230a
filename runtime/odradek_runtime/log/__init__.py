"""The log: the port to Kafka and to its embedded twin.

`port` defines it; `kafka` and `embedded` implement it.
"""
