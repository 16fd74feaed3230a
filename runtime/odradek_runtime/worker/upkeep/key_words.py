"""What a key of a store holds, in words for people: the kind, and what it names. Stands behind all that shows keys to operators."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime

from odradek_runtime.core.records import keys

_REFS = {keys.REF_RETRY: "retry", keys.REF_START: "start", keys.REF_PURGE: "purge", keys.REF_TIMEOUT: "timeout"}


def described(key: bytes) -> tuple[str, str]:
    """The kind of a key, and what it is the key of.

    >>> described(b"scustomer/bob/spent")
    ('state', 'customer/bob/spent')
    >>> described(keys.slot(keys.lock(b"scustomer/bob"), 3))
    ('inbox', 'customer/bob place 3')
    """
    known = _KINDS.get(key[:1])
    if known is None:
        return "of no known kind", repr(key)[1:]
    kind, name = known
    try:
        return kind, name(key[1:])
    except (ValueError, struct.error, OverflowError, OSError):  # whatever bytes they are
        return kind, _text(key[1:])


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _parts(rest: bytes) -> str:
    return "/".join(_text(keys.unescape(part)) for part in rest.split(b"/"))


def _numbered(word: str) -> Callable[[bytes], str]:
    def name(rest: bytes) -> str:
        (number,) = struct.unpack(">Q", rest[-8:])
        return f"{_parts(rest[:-9])} {word} {number}"

    return name


def _timer(rest: bytes) -> str:
    due_ms, id_, ref = keys.split_timer(b"t" + rest)
    due = datetime.fromtimestamp(due_ms / 1000, UTC).isoformat(timespec="milliseconds") if due_ms else "now"
    return f"{id_} {_REFS.get(ref, f'entry {ref}')} at {due}"


def _attached(rest: bytes) -> str:
    id_, _, caller = rest.partition(b"/")
    return f"{_text(id_)} by {_text(caller[:-4])}"


def _replay(rest: bytes) -> str:
    (partition,) = struct.unpack(">I", rest[-4:])
    return f"{_text(rest[:-5])} partition {partition}"


_KINDS: dict[bytes, tuple[str, Callable[[bytes], str]]] = {
    b"s": ("state", _parts),
    b"i": ("invocation", _text),
    b"j": ("journal", _numbered("chunk")),
    b"l": ("lock", _parts),
    b"q": ("inbox", _numbered("place")),
    b"t": ("timer", _timer),
    b"a": ("attached caller", _attached),
    b"z": ("paused", _text),
    b"w": ("promise", _parts),
    b"y": ("waits for a promise", lambda rest: f"{_parts(rest[:-35])} by {_text(rest[-34:-4])}"),
    b"o": ("owed to an app", _numbered("command")),
    b"r": ("replay", _replay),
    b"k": ("replay's order", _replay),
    b"u": ("replay's tally", _text),
    b"p": ("positions", _text),
}
