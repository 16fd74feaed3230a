"""The proofs: what odradek promises, shown on the embedded log, on a simulated one and on a real Kafka."""
