"""Mutants: patches that each take one invariant out of the code, and the test that must notice."""
