"""Bytes of strangers, thrown at everything that decodes any: each gives a value or its one documented error, in bounded time."""
