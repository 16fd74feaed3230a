"""To a peer's private port and back: the front's half of the wire between workers; `private` is the other one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx

from odradek_runtime.http.ingress import wire
from odradek_runtime.http.ingress.errors import too_many, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from odradek_runtime.core.records.request import Reply, Request
    from odradek_runtime.http.ingress.credential import Credential


class NotGiven(Exception):
    """The peer was not reached: it surely did nothing with the request."""


class Forwarder:
    """Asks peers. `client` must wait for answers as long as they take; `credential` shows that a worker asks."""

    def __init__(self, client: httpx.AsyncClient, credential: Credential) -> None:
        self._client = client
        self._credential = credential

    async def ask(self, owner: str, request: Request, accepted: Callable[[], None]) -> Reply | None:
        """The peer's reply; None when it gave none that is understood, and may have done something or not.

        `accepted` is called when it says that the invocation is durable. Raises NotGiven, and HttpError 429 when it has no place.
        """
        body, headers = wire.encode_request(request), self._credential.headers(owner)
        try:
            async with self._client.stream("POST", owner + wire.ASK_PATH, content=body, headers=headers) as response:
                if response.status_code == 429:
                    raise too_many("too many requests wait at the owner of this key; retry later")
                if response.status_code == 503:
                    raise unavailable(await _message(response), retry_after_s=5)
                if response.status_code == 401:
                    self._credential.refused_at(owner)
                if response.status_code != 200:
                    raise NotGiven(f"{owner} answered {response.status_code}")
                return await _read(response, accepted)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotGiven(f"{owner} cannot be reached: {error}") from error
        except httpx.TransportError:
            return None


async def _read(response: httpx.Response, accepted: Callable[[], None]) -> Reply | None:
    received = b""
    async for part in response.aiter_raw():
        received += part
        if received.startswith(wire.ACCEPTED):
            received = received[len(wire.ACCEPTED) :]
            accepted()
    try:
        return wire.decode_reply(received)
    except ValueError:
        # Somebody else listens where the owner did.
        return None


async def _message(response: httpx.Response) -> str:
    try:
        return str(json.loads(await response.aread())["message"])
    except (ValueError, KeyError, TypeError):
        return "the owner of this key cannot use the log now"
