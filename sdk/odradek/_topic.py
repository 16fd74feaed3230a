"""Topics and the records read from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from odradek._errors import RefusedValue, TerminalError
from odradek._guard import Encode, Quick, never
from odradek._serde import Serde, is_text_key, key_encoder, topic_serde

if TYPE_CHECKING:
    from collections.abc import Sequence

    from odradek._port import Origin

K = TypeVar("K")
V = TypeVar("V")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Topic(Generic[K, V]):
    """A Kafka topic with the types of its keys and values; made by `App.topic`, which says how they choose the serde.

    Raises ValueError when Kafka would not take the name, TypeError when a type's values would not come back.

    >>> from odradek import App
    >>> App("shop").topic("orders", value=int).name
    'orders'
    """

    name: str
    encode_key: Encode
    """How its keys travel."""
    encode: Encode
    """How its values travel; not for None."""
    quick: Quick
    """Encodes most values, and fast; not for None. For what it gives None for or raises at, `encode` says what there is to say."""
    text_keys: bool
    """Most of its keys become bytes by `str.encode` alone; `encode_key` says why another does not."""

    def __init__(self, name: str, key: Any, value: Any) -> None:
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise ValueError(f"topic {name!r}: a name is 1 to 249 letters, digits, '.', '_' or '-' of ASCII")
        self.name = name
        self.key_type = key
        self.value_type = value
        try:
            self._resolve()
        except NameError:  # it names a class that is defined further down: at first use, then
            self.encode_key = self._first_encode_key
            self.encode = self._first_encode
            self.quick, self.text_keys = never, False
        except TypeError as error:
            raise TypeError(f"topic {name!r}: {error}") from error

    @cached_property
    def serde(self) -> Serde:
        """How its values travel; made at first use, when every type that the hint names is defined."""
        return topic_serde(self.value_type)

    def _resolve(self) -> None:
        self.encode_key = key_encoder(self.key_type, f"topic {self.name!r}: key")
        self.encode = self.serde.guard(f"topic {self.name!r}: value")
        self.quick = self.serde.guard.quick
        self.text_keys = is_text_key(self.key_type)

    def _first_encode_key(self, key: Any) -> bytes:
        self._resolve_late()
        return self.encode_key(key)

    def _first_encode(self, value: Any) -> bytes:
        self._resolve_late()
        return self.encode(value)

    def _resolve_late(self) -> None:
        try:
            self._resolve()
        except (TypeError, NameError) as error:
            raise RefusedValue(f"topic {self.name!r}", "type", str(error)) from error

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"


@dataclass(frozen=True, slots=True)
class Record:
    """The record that started an invocation, as `ctx.record`. `headers` may repeat a name.

    `timestamp_ms` is what the record says, any number: milliseconds since 1970 by Kafka's rule, other units by mistake.
    `replay` is the id of the replay, or of the reset, that delivered the record again; None when it was read for the first time.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    replay: str | None = None

    @property
    def timestamp(self) -> datetime:
        """The time in UTC. Raises TerminalError for a number that is no date (years 1 to 9999), as microseconds are not."""
        try:
            return _EPOCH + timedelta(milliseconds=self.timestamp_ms)
        except OverflowError:
            raise TerminalError(
                f"ctx.record.timestamp: {self.topic}[{self.partition}]@{self.offset} says {self.timestamp_ms} ms, which is no date "
                "of the years 1 to 9999 (in microseconds, perhaps?): use ctx.record.timestamp_ms, the number as it is",
                code=400,
            ) from None

    @classmethod
    def of(cls, origin: Origin) -> Record:
        """Build it from what the engine knows."""
        place = origin.topic, origin.partition, origin.offset
        return cls(*place, origin.timestamp_ms, origin.key, origin.headers, origin.replay_id or None)
