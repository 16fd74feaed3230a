"""The benchmark's pieces work: nothing here is timed."""
