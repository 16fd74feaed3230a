"""How the workers of an app know each other at their private ports: by tokens made of a secret that they alone share.

A token is made of the secret, the app's name and the URL that it is shown to. Whoever receives one, at an address that was once a
worker's, can use it nowhere else, and learns nothing of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from odradek_runtime.http.ingress.errors import HttpError, error_response
from odradek_runtime.log.port import LogError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("odradek.ingress")

SCHEME = b"Bearer "
LOOK_S = 2.0
"""The secret is looked up again when a token does not fit, at most so often."""
SAY_S = 60.0
"""And that is said at most so often."""
KNOWN = 1_024
SAME = "all workers of an app need the same private_token (or none), and the same version of odradek"


class Credential:
    """The secret as one worker of an app knows it. Any thread may use it; nothing but `load` blocks.

    `look_up` blocks, and gives the secret as it is now. `own_url`: what peers know this worker's private port by.
    """

    def __init__(
        self, app: str, look_up: Callable[[], bytes], own_url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._look_up = look_up
        self._own_url = own_url
        self._clock = clock
        self._secret = b""
        self._tokens: dict[str, str] = {}
        self._looked_s = self._said_s = float("-inf")
        self._looking = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="odradek-credential")

    def load(self) -> None:
        """Blocks. Look the secret up; until then nobody is admitted. Raises LogError."""
        secret = self._look_up()
        if secret != self._secret:
            self._secret, self._tokens = secret, {}

    def headers(self, url: str) -> dict[str, str]:
        """What a request to the private port at this URL carries."""
        return {"authorization": SCHEME.decode() + self._token(url)}

    def admits(self, shown: bytes) -> bool:
        """Whether this is the `authorization` of a worker of this app."""
        return bool(self._secret) and hmac.compare_digest(shown, SCHEME + self._token(self._own_url).encode())

    def refused_at(self, url: str) -> None:
        """A peer has refused this worker's token."""
        self.doubt(f"the worker at {url} refuses the token of this one: {SAME}")

    def doubt(self, said: str) -> None:
        """A token was refused, by this worker or by a peer: the secret may be another by now, and is looked up in a while."""
        now_s = self._clock()
        if now_s - self._said_s > SAY_S:
            self._said_s = now_s
            log.warning("%s", said)
        if now_s - self._looked_s > LOOK_S and not self._looking:
            self._looked_s, self._looking = now_s, True
            self._thread.submit(self._look_again)

    def close(self) -> None:
        """Let the look-up thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look_again(self) -> None:
        try:
            self.load()
        except LogError as error:
            log.warning("the secret of the app's workers cannot be looked up: %s", error)
        finally:
            self._looking = False

    def _token(self, url: str) -> str:
        tokens = self._tokens
        found = tokens.get(url)
        if found is None:
            if len(tokens) >= KNOWN:
                tokens.clear()
            found = tokens[url] = hmac.new(self._secret, f"{self._app} {url}".encode(), hashlib.sha256).hexdigest()
        return found


class PeersOnly:
    """An ASGI app before that of the private port: who is no worker of this app is refused before anything is read of them."""

    def __init__(self, app: ASGIApp, credential: Credential) -> None:
        self._app = app
        self._credential = credential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) == 1 and self._credential.admits(shown[0]):
            await self._app(scope, receive, send)
            return
        client = (scope.get("client") or ("an unknown address",))[0]
        self._credential.doubt(
            f"{client} asked at the private port without the token of this app's workers, and was refused; if it is one, {SAME}"
        )
        refusal = HttpError(401, "this port is for the app's own workers", headers={"www-authenticate": "Bearer"})
        await error_response(refusal)(scope, receive, send)
