"""The contenders that odradek is measured against; each runs as its own process on the same input topic."""
