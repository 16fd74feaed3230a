"""Kafka's own exactly-once system test, `StreamsEosTest` of its test jar, around odradek instead of Kafka Streams.

Its driver writes the input and its verifier judges the outputs, both unchanged. `app` is the topology, `choreography` says who
comes, goes and is killed when, `trial` is one whole run; `python -m tests.eos` (`make eos`) runs several and prints a table.
"""
