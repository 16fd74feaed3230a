"""The core decides: an event comes in, its effects go into the open epoch. No I/O, no clock, no randomness of its own.

`machine` is its door and knows all of it; `lifecycle` is what happens to an invocation, `running` its coroutine, `operations` what
it can ask for, `topics` what the topics take, `records` what is stored and said.
"""
