"""Keys of the store and of the changelogs: one letter says what a key holds, the rest names it.

State keys are `s` + object/key/name, escaped; `<app>.state` carries them without the letter. Journal keys: `i` invocation,
`j` journal chunk, `l` lock of an object key, `q` inbox slot, `t` timer, `a` attached caller, `z` paused, `w` a promise, `y` who
waits for one, `o` a command for another app, `r` a replay's way through a partition, `k` which record keys it delivers, `u` what
became of its invocations, `p` positions. `m` stays in the store alone.
"""

from __future__ import annotations

import struct

from odradek._serde import encode_name

STATE = b"s"
POSITIONS = b"p"
STORE_POSITION = b"m"

WAITER_BYTES = 34
"""What follows the promise in the key of who waits for it: an id, and the number of an entry."""
_U64 = struct.Struct(">Q")

SUFFIXES: dict[str, bytes] = {}
"""What `suffix_of` has encoded; a live invocation looks here first."""


def escape(part: bytes) -> bytes:
    """Percent-escape what separates the parts of a state key.

    >>> escape(b"a/b%")
    b'a%2Fb%25'
    """
    if b"%" in part or b"/" in part:
        return part.replace(b"%", b"%25").replace(b"/", b"%2F")
    return part


def suffix_of(name: str) -> bytes:
    """`/name` as state keys end; names are few, so they are encoded once."""
    suffix = SUFFIXES.get(name)
    if suffix is None:
        if len(SUFFIXES) > 10_000:
            SUFFIXES.clear()
        suffix = SUFFIXES[name] = b"/" + escape(encode_name(name))
    return suffix


def unescape(part: bytes) -> bytes:
    """Undo `escape`."""
    return part.replace(b"%2F", b"/").replace(b"%25", b"%")


def state_prefix(service: str) -> bytes:
    """`s` + object + "/": what every state key of the object starts with."""
    return STATE + escape(service.encode()) + b"/"


def invocation(id_: str) -> bytes:
    """Where an invocation's own entry is."""
    return b"i" + id_.encode()


def chunks(id_: str) -> bytes:
    """The prefix of all journal chunks of one invocation."""
    return b"j" + id_.encode() + b"/"


def chunk(id_: str, sequence: int) -> bytes:
    """Where one chunk of its journal is; sequences grow."""
    return b"j" + id_.encode() + b"/" + _U64.pack(sequence)


def lock(state_base: bytes) -> bytes:
    """The lock of an object key, from the base of its state keys (`s` + object/key)."""
    return b"l" + state_base[1:]


def slot(lock_key: bytes, number: int) -> bytes:
    """Where one place of the inbox behind a lock is."""
    return b"q" + lock_key[1:] + b"/" + _U64.pack(number)


def attached(id_: str) -> bytes:
    """The prefix of those that wait for an invocation beside its first caller."""
    return b"a" + id_.encode() + b"/"


def attachment(id_: str, caller_id: str, ref: int) -> bytes:
    """Where one attached caller is noted."""
    return attached(id_) + caller_id.encode() + struct.pack(">i", ref)


def attached_id(key: bytes) -> str:
    """The invocation that an attached caller of this key waits for.

    >>> attached_id(attachment("inv_a", "inv_b", 3))
    'inv_a'
    """
    return key[1 : key.index(b"/")].decode()


def outbox(app: str) -> bytes:
    """The prefix of the commands that wait until another app can be told."""
    return b"o" + app.encode() + b"/"


def outbox_slot(app: str, sequence: int) -> bytes:
    """Where one of them is; sequences grow."""
    return outbox(app) + _U64.pack(sequence)


def outbox_app(key: bytes) -> str:
    """The app that a command of this key waits for.

    >>> outbox_app(outbox_slot("shop", 3))
    'shop'
    """
    return key[1 : key.index(b"/")].decode()


def promise(state_base: bytes, name: str) -> bytes:
    """A promise of a workflow's key, from the base of its state keys."""
    return promises_of(state_base) + escape(encode_name(name))


def promises_of(state_base: bytes) -> bytes:
    """The prefix of all of a key."""
    return b"w" + state_base[1:] + b"/"


def promise_waiters(promise_key: bytes) -> bytes:
    """The prefix of those who wait for it."""
    return b"y" + promise_key[1:] + b"/"


def waiters_of(state_base: bytes) -> bytes:
    """The prefix of those who wait for any promise of a key."""
    return b"y" + state_base[1:] + b"/"


def promise_waiter(promise_key: bytes, id_: str, ref: int) -> bytes:
    """Where it is noted that this entry of an invocation waits for it."""
    return promise_waiters(promise_key) + id_.encode() + struct.pack(">i", ref)


def split_waiter(key: bytes) -> tuple[bytes, str, int]:
    """(key of the promise, id, ref) of who waits for it.

    >>> split_waiter(promise_waiter(promise(b"sflow/k", "p"), "inv_" + "a" * 26, 3))[2]
    3
    """
    return b"w" + key[1 : -WAITER_BYTES - 1], key[-WAITER_BYTES:-4].decode(), struct.unpack(">i", key[-4:])[0]


def replay(id_: str, partition: int) -> bytes:
    """Where one partition's part of a replay is."""
    return b"r" + id_.encode() + b"/" + struct.pack(">I", partition)


def replay_order(id_: str, partition: int) -> bytes:
    """Where the order of one partition's part of a replay is, if it names keys."""
    return b"k" + replay(id_, partition)[1:]


def replay_tally(id_: str) -> bytes:
    """Where a shard counts what has become of a replay's invocations."""
    return b"u" + id_.encode()


def paused(id_: str) -> bytes:
    """Marks an invocation to be looked at again after a restart."""
    return b"z" + id_.encode()


def timer(due_ms: int, id_: str, ref: int) -> bytes:
    """Sorted by due time. `ref` is the index of the entry it completes, or one of the negative REF_* numbers."""
    return b"t" + _U64.pack(due_ms) + id_.encode() + struct.pack(">i", ref)


def split_timer(key: bytes) -> tuple[int, str, int]:
    """(due_ms, id, ref) of a timer key."""
    return _U64.unpack(key[1:9])[0], key[9:-4].decode(), struct.unpack(">i", key[-4:])[0]


REF_RETRY = -2
REF_START = -3
REF_PURGE = -4
REF_TIMEOUT = -5
