"""A peer's private port, as the admin API asks it: with the credential of this app's workers, and no answer is an answer, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from odradek_runtime.http.admin import wire

if TYPE_CHECKING:
    from odradek_runtime.http.ingress.credential import Credential


class PrivatePort:
    """Asks other workers. `credential` shows that a worker asks, and hears of a peer that refuses it."""

    def __init__(self, client: httpx.AsyncClient, credential: Credential) -> None:
        self._client = client
        self._credential = credential

    async def ask(
        self, url: str, path: str, *, timeout_s: float, method: str = "GET", body: object = None
    ) -> httpx.Response | None:
        """What the worker at this URL answers; None when it cannot be reached. A body goes, and comes if it may, as msgpack."""
        headers = {**self._credential.headers(url), "accept": wire.MSGPACK}
        content = None
        if body is not None:
            headers["content-type"], content = wire.MSGPACK, wire.encode(body, wire.MSGPACK)
        try:
            told = await self._client.request(method, url + path, content=content, headers=headers, timeout=timeout_s)
        except httpx.TransportError:
            return None
        if told.status_code == 401:
            self._credential.refused_at(url)
        return told
