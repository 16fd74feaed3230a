"""What waiting costs: requests, steps, calls and records that somebody waits for, odradek beside its peers in one run."""
