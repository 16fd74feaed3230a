"""Steps: bodies of users' functions that run outside the engine, on an event loop and in threads of their own."""
