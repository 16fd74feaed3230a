"""Every rule that the design paid for with an experiment, held to by a test that fails without it (see docs/invariants.md)."""
