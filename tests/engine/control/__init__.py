"""What an operator, or a caller, does to invocations: look at them, kill, pause, resume, restart, purge, cancel."""
