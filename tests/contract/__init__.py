"""The contract of the log port: one suite that every log must pass, and the embedded log's own proofs."""
