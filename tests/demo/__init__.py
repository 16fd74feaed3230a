"""The demo, on a slice of the year."""
