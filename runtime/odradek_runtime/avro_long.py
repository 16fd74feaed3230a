"""An Avro long in bytes: what the engine's formats and the embedded log's framing both write.

Stands below both, beside the clock: neither of the two may know the other.
"""


def long(number: int) -> bytes:
    r"""Zigzag, then seven bits a byte, the lowest first (Avro specification 1.11, binary encoding). Of 64 bits at the most.

    >>> long(-1), long(64)
    (b'\x01', b'\x80\x01')
    """
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
