"""What happens to an invocation, a file each: it is delivered or started, goes on, waits, fails, ends, comes back, tells others.

More files than a dozen, for each is one part of that life, and they stand in one order: who writes stands below who decides.
"""
