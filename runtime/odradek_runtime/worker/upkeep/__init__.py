"""Upkeep: what is done beside the engine, by time or because an operator asks: trim, flush, count, verify, rebuild."""
