"""HTTP ingress: from a request on the wire to an `Invoke` or `Attach` in the engine that owns the shard, and back.

public server -> `routes` (path, key, body, options; 4xx) -> `dispatch` (own shard: `bridge` into the engine; another's:
`peers` says whose, `private` is where it arrives) -> `responses` (JSON, bytes, errors).
"""
