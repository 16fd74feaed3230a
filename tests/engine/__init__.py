"""The engine on the embedded log: every promise of a handler, every ending, every restart."""
