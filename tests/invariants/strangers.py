"""What strangers write into an app's topics: put there, made of a genuine record, and judged whether it could be one of ours."""

import random
import time
from collections.abc import Sequence

from odradek_runtime.core.records.formats import OtherVersion
from odradek_runtime.core.records.sieve import NotOurs, Sieve
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Message, Output
from tests.invariants.hostile import SHARDS


def put(log: EmbeddedLog, topic: str, records: Sequence[tuple[int, bytes, bytes | None]]) -> None:
    """Write them, as somebody who has the right to."""
    publisher = log.publisher(f"stranger-{time.monotonic_ns()}")
    for begin in range(0, len(records), 1_000):
        some = records[begin : begin + 1_000]
        publisher.publish([Output(topic, number, key, value) for number, key, value in some], begin + 1)
    publisher.close()


def spoilt(rng: random.Random, genuine: Message) -> tuple[int, bytes, bytes | None]:
    """A copy of a genuine record with something wrong with its key, its value, or both."""
    key, value = bytearray(genuine.key() or b""), bytearray(genuine.value() or b"")
    for part in rng.choice(((key,), (value,), (key, value))):
        at = rng.randrange(len(part) + 1)
        match rng.randrange(3):
            case 0:
                del part[at:]
            case 1:
                part[at : at + 1] = rng.randbytes(1)
            case _:
                part[at:at] = rng.randbytes(rng.randrange(1, 9))
    return rng.choice((genuine.partition(), rng.randrange(SHARDS))), bytes(key), bytes(value)


def plausible(number: int, key: bytes, value: bytes | None) -> bool:
    """Whether nobody could tell it from ours, or from a newer version's. Rights to the topic keep such out."""
    try:
        Sieve(SHARDS, number).journal(key, value)
    except NotOurs:
        return False
    except OtherVersion:
        return True
    return True
