"""Inputs made of sound ones: cut, stretched, and with the bytes in them that decoders stumble over. The same for the same seed."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tests.fuzz.targets import Target

HANGS_S = 5.0
LENGTHS = (b"\xff" * 9 + b"\x01", b"\x80" * 40, b"\xfe\xff\xff\xff\x0f", b"\x01")
NASTY = (*LENGTHS, b"", b"\x00", b"\x7f", b"\x80", b"\xff", b"\xed\xa0\x80")
"""Among them the longest long, a negative length, a long without an end, half a surrogate."""


def spoilt(target: Target, seed: int, number: int) -> Iterator[bytes]:
    """So many inputs."""
    rng = random.Random(seed)
    for _ in range(number):
        sound = bytearray(rng.choice(target.sound))
        fixed = target.prefix if rng.random() < 0.95 else 0
        match rng.randrange(4):
            case 0:
                yield bytes(sound[:fixed]) + rng.randbytes(rng.randint(0, 60))
            case 1:
                yield bytes(sound[: rng.randint(fixed, len(sound))])
            case _:
                for _ in range(rng.randint(1, 4)):
                    at = rng.randint(fixed, len(sound))
                    sound[at : at + rng.choice((0, 1, 1, 2, 8))] = rng.choice((*NASTY, rng.randbytes(1), rng.randbytes(1)))
                yield bytes(sound)


class Hangs(BaseException):
    """A decoder did not come to an end."""


@contextmanager
def bounded() -> Iterator[None]:
    """What is done in the block ends, or raises Hangs. In the main thread alone."""

    def rang(_signal: int, _frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, rang)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def why_wrong(target: Target, raw: bytes) -> str:
    """What a decoder did that it must not; "" if it kept its word."""
    try:
        with bounded():
            target.decode(raw)
    except target.errors:
        return ""
    except (Exception, Hangs) as error:  # noqa: BLE001  whatever it is, it is not what was promised
        return f"{type(error).__name__}: {error}"
    return ""
