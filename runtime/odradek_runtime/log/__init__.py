"""The log: the port to Kafka and to its twins.

`port` defines it; `kafka`, `embedded` and `simulated` implement it.
"""
