"""An invocation and its coroutine: the engine's side of a context, who drives it, and where it is kept while it waits."""
