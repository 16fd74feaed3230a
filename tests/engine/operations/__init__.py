"""What a handler can ask for, in a worker: one file of tests a kind of operation, as the core has one file a kind."""
