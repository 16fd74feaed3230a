"""Restoring: shards are taken over from the log, and a start looks first whether the app's own topics are what they were."""
