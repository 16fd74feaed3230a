"""Routing: which shard a key, a record or an invocation belongs to, and the ids that carry that answer with them.

The shard of a key is Kafka's own default partitioning, (murmur2(key) & 0x7fffffff) % N with seed 0x9747b28c
(org.apache.kafka.common.utils.Utils.murmur2), so that a record keyed by a Java producer is read where its object lives.
"""

from __future__ import annotations

import base64
import hashlib

from murmurhash2 import murmurhash2

_SEED = 0x9747B28C
_PREFIX = "inv_"


def key_hash(key: bytes) -> int:
    """Kafka's positive murmur2 of a record key.

    >>> key_hash(b"foobar") == (-790332482 & 0x7FFFFFFF)
    True
    """
    return murmurhash2(key, _SEED) & 0x7FFFFFFF


def shard_of(key: bytes, shards: int) -> int:
    """The shard, 0..shards-1, that owns this key."""
    return (murmurhash2(key, _SEED) & 0x7FFFFFFF) % shards


def invocation_id(hash_: int, identity: bytes) -> str:
    """An id that carries its routing hash (31 bits) and 96 bits of identity, safe in URLs.

    >>> id_hash(invocation_id(77, b"123456789012"))
    77
    """
    raw = hash_.to_bytes(4, "big") + identity[:12]
    return _PREFIX + base64.b32encode(raw).decode().rstrip("=").lower()


def id_hash(id_: str) -> int:
    """The routing hash inside an invocation id. Raises ValueError when it is none."""
    if not id_.startswith(_PREFIX) or len(id_) != len(_PREFIX) + 26:
        raise ValueError(f"{id_!r} is not an invocation id (inv_ and 26 letters)")
    try:
        return int.from_bytes(base64.b32decode(id_[4:].upper() + "======")[:4], "big")
    except ValueError:
        raise ValueError(f"{id_!r} is not an invocation id (inv_ and 26 letters)") from None


def derived_id(hash_: int, *parts: str | bytes | int) -> str:
    """The id that follows from its cause alone: the same parts always give the same invocation."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return invocation_id(hash_, digest.digest())


def request_id(target: str, key: bytes, idempotency_key: str) -> str:
    """The id of a request with an idempotency key: a function of (target, key, idempotency key)."""
    hash_ = key_hash(key) if key else key_hash(idempotency_key.encode())
    return derived_id(hash_, target, key, idempotency_key)


def fresh_id(key: bytes | None, entropy: bytes, *, hash_: int | None = None) -> str:
    """A new id for a request without idempotency key; without a key, `hash_` (a shard number will do) says where it runs."""
    return invocation_id(key_hash(key) if key else (hash_ or 0), entropy)
