"""Ordering: what every order for partitions of a topic is held against before it is given. Replays and resets are such orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from odradek_runtime.http.ingress.errors import bad_field, unavailable
from odradek_runtime.log.port import Log, Partition, TopicInfo

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

    from odradek_runtime.http.admin.access import Blocking
    from odradek_runtime.http.ingress.port import Answering

NAME_CHARACTERS = 200
"""Of who asks."""


class Ordering:
    """Of one worker. Everything raises HttpError, with the field that is amiss."""

    def __init__(self, worker: Answering, log: Log, blocking: Blocking) -> None:
        self._worker = worker
        self._log = log
        self._blocking = blocking

    def check(self, partitions: Sequence[int]) -> None:
        """Whether an order may be given for these: one part for each, by a worker that has started."""
        if not partitions or len(set(partitions)) < len(partitions):
            raise bad_field("$.parts", "one for each partition, at least one")
        if self._worker.shards == 0:
            raise unavailable("the worker has not started yet")

    async def topic(self, name: str) -> TopicInfo:
        """The topic, which must be there."""
        found = await self._blocking.run(lambda: self._log.topic(name))
        if found is None:
            raise bad_field("$.topic", f"there is no topic {name!r}")
        return found

    async def bounds(self, topic: TopicInfo, number: int) -> tuple[int, int]:
        """(first offset, end offset) of one partition, which must be there."""
        if not 0 <= number < topic.partitions:
            raise bad_field("$.parts.partition", f"{topic.name} has partitions 0 to {topic.partitions - 1}, not {number}")
        return await self._blocking.run(lambda: self._log.offsets(Partition(topic.name, number)))


def asked_by(given: str, request: HttpRequest, field: str = "$.asked_by") -> str:
    """Who asks, for the log: as given, or the client's address. Raises HttpError for what no line of a log could say."""
    if not given:
        return request.client.host if request.client is not None else "somebody"
    if len(given) > NAME_CHARACTERS or not given.isprintable():
        raise bad_field(field, f"at most {NAME_CHARACTERS} printable characters, such as user@host")
    return given
