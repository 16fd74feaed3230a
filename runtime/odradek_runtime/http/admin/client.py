"""`RemoteLog`: the log of a running worker, over its admin port; to a command it is a log like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from odradek_runtime.http.admin import wire
from odradek_runtime.log.port import LogError, Member, Message, Output, Partition, Peer, Publisher, TopicInfo

T = TypeVar("T")
Query = Mapping[str, str | int | Sequence[str]]


@dataclass(frozen=True, slots=True)
class RemoteMessage:
    """A record read over HTTP, with the methods of `port.Message`."""

    at: Partition
    record: wire.WireMessage

    def topic(self) -> str:
        return self.at.topic

    def partition(self) -> int:
        return self.at.partition

    def offset(self) -> int:
        return self.record.offset

    def key(self) -> bytes | None:
        return self.record.key

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.record.headers

    def timestamp(self) -> tuple[int, int]:
        return self.record.timestamp


class RemoteLog:
    """What commands need of a `Log`, asked of the worker at `admin_url` with the token of its worker.json.

    Everything raises LogError: with the worker's own words, or that it cannot be reached. `trim`, `peers` and `member`
    belong to workers and are refused.

    Example: `RemoteLog("http://127.0.0.1:9070", token).topics()`
    """

    def __init__(self, admin_url: str, token: str, *, client: httpx.Client | None = None) -> None:
        self._url = admin_url.rstrip("/")
        headers = {"authorization": f"Bearer {token}", "accept": wire.MSGPACK}
        self._client = client or httpx.Client(timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False)
        self._client.headers.update(headers)

    def topic(self, name: str) -> TopicInfo | None:
        """What the topic is, or None."""
        response = self._send("GET", f"/topics/{quote(name, safe='')}", missing_ok=True)
        return None if response is None else _topic_info(_decode(response, wire.WireTopic))

    def topics(self) -> Sequence[str]:
        """The names of all topics, sorted."""
        return self._get("/topics", wire.TopicNames).topics

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create it if absent and return what exists."""
        response = self._send("POST", "/topics", body=wire.WireTopic(name, partitions, dict(config)))
        return _topic_info(_decode(response, wire.WireTopic))

    def offsets(self, partition: Partition) -> tuple[int, int]:
        """(first offset, end offset)."""
        bounds = self._get(_path(partition, "offsets"), wire.Bounds, partition=partition.partition)
        return bounds.first, bounds.end

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """First offset at or after this Unix time."""
        path = _path(partition, "offsets")
        return self._get(path, wire.Bounds, partition=partition.partition, at_ms=timestamp_ms).first

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        """Committed records with start <= offset < stop, in batches."""
        path = _path(partition, "records")
        while start < stop:
            page = self._get(path, wire.Page, partition=partition.partition, offset=start, stop=stop)
            if page.records:
                yield [RemoteMessage(partition, record) for record in page.records]
            if page.next_offset <= start:
                return
            start = page.next_offset

    def publisher(self, name: str) -> Publisher:
        """A publisher that writes through the worker."""
        return RemotePublisher(self, name)

    def ping(self, timeout_s: float) -> None:
        """Raise LogError unless the worker answers."""
        self.topics()

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        _refuse("times_at")

    def trim(self, partition: Partition, before: int) -> None:
        _refuse("trim")

    def delete_topic(self, name: str) -> None:
        _refuse("delete_topic")

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offsets that the app's group has committed for these."""
        found: dict[Partition, int] = {}
        for topic in sorted({partition.topic for partition in partitions}):
            answer = self._get(f"/topics/{quote(topic, safe='')}/committed", wire.Committed, app=app)
            found.update({Partition(topic, number): offset for number, offset in answer.offsets.items()})
        return {partition: found[partition] for partition in partitions if partition in found}

    def forget_group(self, app: str) -> None:
        _refuse("forget_group")

    def peers(self, app: str) -> Sequence[Peer]:
        _refuse("peers")

    def member(self, app: str, shards: int, url: str | None) -> Member:
        _refuse("member")

    def shared_secret(self, app: str) -> bytes | None:
        _refuse("shared_secret")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, method: str, path: str, kind: type[T], body: object = None, query: Query | None = None) -> T:
        """One request that must succeed; its answer as `kind`."""
        return _decode(self._send(method, path, body=body, query=query), kind)

    def forget_publisher(self, name: str) -> None:
        """Free the publisher at the worker."""
        self._send("DELETE", "/publishers", query={"name": name})

    def _get(self, path: str, kind: type[T], **query: str | int) -> T:
        return _decode(self._send("GET", path, query=query), kind)

    def _send(
        self, method: str, path: str, *, body: object = None, query: Query | None = None, missing_ok: bool = False
    ) -> httpx.Response | None:
        content = None if body is None else wire.encode(body, wire.MSGPACK)
        headers = {} if body is None else {"content-type": wire.MSGPACK}
        try:
            response = self._client.request(method, self._url + path, params=query, content=content, headers=headers)
        except httpx.TransportError as error:
            raise LogError(f"the worker at {self._url} cannot be reached ({error}); has it ended?") from error
        if missing_ok and response.status_code == 404:
            return None
        if response.is_error:
            raise LogError(_message(response), retriable=response.status_code in {429, 503})
        return response


class RemotePublisher:
    """A `Publisher` at the other end of the admin port."""

    def __init__(self, log: RemoteLog, name: str) -> None:
        self._log = log
        self._name = name

    def position(self) -> int:
        """How many source items earlier runs under this name have published."""
        return self._log.ask("GET", "/publishers", wire.Position, query={"name": self._name}).position

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        """Write these records and the position atomically and durably."""
        records = [
            wire.WireRecord(o.topic, o.partition, o.key, o.value, None if o.headers is None else list(o.headers), o.timestamp_ms)
            for o in outputs
        ]
        self._log.ask("POST", "/records", wire.Position, records, {"name": self._name, "position": position})

    def close(self) -> None:
        """Free it at the worker; its position stays."""
        self._log.forget_publisher(self._name)


def _path(partition: Partition, what: str) -> str:
    return f"/topics/{quote(partition.topic, safe='')}/{what}"


def _topic_info(topic: wire.WireTopic) -> TopicInfo:
    return TopicInfo(topic.name, topic.id, topic.partitions, topic.config)


def _decode(response: httpx.Response | None, kind: type[T]) -> T:
    if response is None:
        raise LogError("the worker gave no answer")
    try:
        return wire.decode(response.content, wire.MSGPACK, kind)
    except ValueError as error:
        raise LogError(f"the worker's answer is not understood ({error}); is it of this version?") from error


def _message(response: httpx.Response) -> str:
    try:
        body: Any = msgspec.json.decode(response.content)
        return str(body["message"])
    except (ValueError, KeyError, TypeError):
        return f"the worker answered {response.status_code}: {response.text[:200]}"


def _refuse(what: str) -> NoReturn:
    raise LogError(f"{what} is for workers, not for a command beside one", retriable=False)
