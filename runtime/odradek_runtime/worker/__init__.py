"""One worker: a member of the group with its shards. The machine of the core, fed and committed, and all that stands around it."""
