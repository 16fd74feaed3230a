"""The public API against an engine that only takes notes."""
