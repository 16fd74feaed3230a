"""Ids of awakeables: what is given to the outside says which entry of which invocation waits, and of which app that is.

`awk_`, 32 letters for the invocation and its entry, a dot, the app's name. Where the setting `awakeable_secret` holds something, a
seal of 80 bits stands behind the entry (48 letters), which only who knows the secret can make: then an id cannot be guessed, and
one that has none, or another one, is nobody's. Leaves: whoever gives an id away, or is given one, asks here.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple

from odradek._service import NAME
from odradek_runtime.routing import raw_id, written_id

SEAL_BYTES = 10
_ID = re.compile(r"awk_([a-z2-7]{32}|[a-z2-7]{48})\.(.+)", re.DOTALL)


class AwakeableId(NamedTuple):
    """What an id says; `seal` is empty where the app that gave it seals none."""

    app: str
    invocation_id: str
    ref: int
    seal: bytes


class AwakeableIds:
    """Of one app. `secrets`: the first seals what is given away now, each makes an id good that was given away under it."""

    def __init__(self, app: str, secrets: Sequence[str]) -> None:
        self._app = app
        self._secrets = [secret.encode() for secret in secrets]

    def of(self, invocation_id: str, ref: int) -> str:
        """The id of the awakeable that is this entry of an invocation."""
        raw = _raw(invocation_id, ref)
        seal = _sealed(self._secrets[0], raw) if self._secrets else b""
        return f"awk_{base64.b32encode(raw + seal).decode().lower()}.{self._app}"

    def good(self, invocation_id: str, ref: int, seal: bytes) -> bool:
        """Whether an id with this seal is one that this app has given away, as far as that can be told without a look at it."""
        if not self._secrets:
            return not seal
        raw = _raw(invocation_id, ref)
        return any(hmac.compare_digest(_sealed(secret, raw), seal) for secret in self._secrets)


def parsed(id_: str) -> AwakeableId:
    """Raises ValueError when it is no id of an awakeable.

    >>> parsed(AwakeableIds("shop", []).of(written_id(b"x" * 16), 3))[2:]
    (3, b'')
    """
    found = _ID.fullmatch(id_)
    raw = base64.b32decode(found[1].upper()) if found is not None and NAME.fullmatch(found[2]) is not None else b""
    if found is None or not raw or raw[16] > 127:  # an entry's number has 31 bits
        raise ValueError(f"{id_[:100]!r} is not the id of an awakeable (awk_, 32 or 48 letters, a dot, the name of an app)")
    return AwakeableId(found[2], written_id(raw[:16]), int.from_bytes(raw[16:20], "big"), raw[20:])


def _raw(invocation_id: str, ref: int) -> bytes:
    return raw_id(invocation_id) + ref.to_bytes(4, "big")


def _sealed(secret: bytes, raw: bytes) -> bytes:
    return hmac.digest(secret, raw, "sha256")[:SEAL_BYTES]
