"""Routing: which shard a key, a record or an invocation belongs to, and the ids that carry that answer with them.

The shard of a key is Kafka's own default partitioning, (murmur2(key) & 0x7fffffff) % N with seed 0x9747b28c
(org.apache.kafka.common.utils.Utils.murmur2), so that a record keyed by a Java producer is read where its object lives.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_KNOWN_KEYS = 65_536
_KNOWN: dict[bytes, int] = {}
_UNPACK: dict[int, Callable[[bytes], tuple[int, ...]]] = {}
_PREFIX = "inv_"
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_LETTER_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]
"""By ten bits: two letters of base32 (RFC 4648) at a time, in a third of the time that base64.b32encode takes."""
_SHIFTS = range(120, -1, -10)
_ID = re.compile(r"inv_[a-z2-7]{26}")


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 as an unsigned 32-bit number.

    In Python on purpose: the C package releases the GIL for every key, and beside a busy commit thread taking it back cost 27 µs
    a record; this costs 1 µs, and `key_hash` remembers.

    >>> murmur2(b"foobar") == (-790332482 & 0xFFFFFFFF)
    True
    """
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for k in _words(whole)(data[:whole]):
        k = k * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length != whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def _words(size: int) -> Callable[[bytes], tuple[int, ...]]:
    unpack = _UNPACK.get(size)
    if unpack is None:
        unpack = struct.Struct(f"<{size // 4}I").unpack
        if size <= 256:
            _UNPACK[size] = unpack
    return unpack


def key_hash(key: bytes) -> int:
    """Kafka's positive murmur2 of a record key; the last 65,536 keys are remembered.

    >>> key_hash(b"foobar") == (-790332482 & 0x7FFFFFFF)
    True
    """
    hash_ = _KNOWN.get(key)
    if hash_ is None:
        if len(_KNOWN) >= _KNOWN_KEYS:
            _KNOWN.clear()
        hash_ = _KNOWN[key] = murmur2(key) & 0x7FFFFFFF
    return hash_


def shard_of(key: bytes, shards: int) -> int:
    """The shard, 0..shards-1, that owns this key."""
    return key_hash(key) % shards


def invocation_id(hash_: int, identity: bytes) -> str:
    """An id that carries its routing hash (31 bits) and 96 bits of identity, safe in URLs.

    >>> id_hash(invocation_id(77, b"123456789012"))
    77
    """
    bits = (hash_ << 96 | int.from_bytes(identity[:12], "big")) << 2
    return _PREFIX + "".join([_LETTER_PAIRS[bits >> shift & 0x3FF] for shift in _SHIFTS])


def written_id(raw: bytes) -> str:
    """The id of 16 bytes: 4 of its hash, 12 of its identity."""
    return invocation_id(int.from_bytes(raw[:4], "big"), raw[4:])


def raw_id(id_: str) -> bytes:
    """The 16 bytes of an invocation id. Raises ValueError when it is none."""
    if _ID.fullmatch(id_) is None:
        raise ValueError(f"{id_[:100]!r} is not an invocation id (inv_ and 26 letters a to z, 2 to 7)")
    return base64.b32decode(id_[4:].upper() + "======")


def id_hash(id_: str) -> int:
    """The routing hash inside an invocation id. Raises ValueError when it is none."""
    return int.from_bytes(raw_id(id_)[:4], "big")


def derived_id(hash_: int, *parts: str | bytes | int) -> str:
    """The id that follows from its cause alone: the same parts always give the same invocation."""
    raw = [part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape") for part in parts]
    told = b"".join([len(each).to_bytes(4, "big") + each for each in raw])
    return invocation_id(hash_, hashlib.blake2b(told, digest_size=12).digest())


def request_id(target: str, key: bytes, idempotency_key: str) -> str:
    """The id of a request with an idempotency key: a function of (target, key, idempotency key)."""
    hash_ = key_hash(key) if key else key_hash(idempotency_key.encode())
    return derived_id(hash_, target, key, idempotency_key)


def workflow_id(workflow: str, key: bytes) -> str:
    """The id of a workflow's `run`: a function of its key."""
    return derived_id(key_hash(key), "workflow", workflow, key)


def fresh_id(key: bytes | None, entropy: bytes, *, hash_: int | None = None) -> str:
    """A new id for a request without idempotency key; without a key, `hash_` (a shard number will do) says where it runs."""
    return invocation_id(key_hash(key) if key else (hash_ or 0), entropy)
