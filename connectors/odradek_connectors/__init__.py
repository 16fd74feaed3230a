"""Connectors: sources and sinks written against the public API alone, so that each is an ordinary odradek app."""
