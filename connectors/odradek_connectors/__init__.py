"""Connectors: sources and sinks written against the public API alone, so that each of them is an ordinary odradek app."""
