"""The log: the port to Kafka and to its embedded twin.

`port` defines it; `odradek_runtime.log_kafka` and `log_embedded` implement it.
"""
