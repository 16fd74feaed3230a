"""Plain asyncio inside handlers, a file a primitive: each test also with a replay at every wait."""
