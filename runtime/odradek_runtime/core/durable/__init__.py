"""What plain asyncio runs on inside a handler: tasks, futures and turns that are the same at every replay."""
