"""One HTTP connection: uvicorn's protocol on httptools, held to the limits of its port.

httptools refuses what two parsers could read in two ways (both Content-Length and Transfer-Encoding, bare line feeds, folded
headers). What is left is here: how long a request may take, how much may stand around its body, and that a connection whose
request was answered before it had been read is closed, not read on.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from odradek_runtime.http.ingress.departure import DEPARTURE, Departure
from odradek_runtime.http.ingress.door import network_of
from odradek_runtime.http.ingress.errors import error_body
from odradek_runtime.http.ingress.flow import Flow, has_left
from odradek_runtime.http.ingress.outlet import Outlet

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config
    from uvicorn.server import ServerState

    from odradek_runtime.http.ingress.door import Door

SLICE_BYTES = 16 * 1024
"""So much is parsed between two looks at the limits."""
FRAMING_BYTES = 64 * 1024
"""What may stand around the pieces of a body (sizes of chunks, extensions, trailers), beside an eighth of the body itself."""
LEAST_RATE = 16 * 1024
"""Bytes a second: a body or an answer may take `body_s`, and a second longer for each so many."""
PIPELINED = 64
"""Requests that may wait on one connection behind the one that is being answered."""
LINGER_S = 2.0
LINGER_BYTES = 4 * 1024 * 1024
"""A connection that ends early is read (and what is read dropped) for so long at most, so that its client gets to the answer:
one that is closed with bytes unread is reset, and the answer may be lost with it."""

IDLE, HEAD, BODY, SERVED, ENDED = "idle", "head", "body", "served", "ended"


class Refusal(Exception):
    """What a connection is refused with, and the reason it is counted under."""

    def __init__(self, status: int, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


UNREADABLE = Refusal(400, "the request is no HTTP as it should be: malformed, or it could be read in two ways")


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `check` is called every second or so."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = door
        self._limits = door.limits
        self._address: str | None = None
        self._phase = HEAD
        self._began_s = 0.0
        """When this phase began."""
        self._head_bytes = 0
        self._around_bytes = 0
        """What has been fed to the parser without being body, less an eighth of the body."""
        self._body_bytes = 0
        self._hosts = 0
        self._coding = b""
        self._keep = True
        self._without_upgrade = False
        self._ahead = door.budget.share()
        """What was read while requests waited behind the one that is being answered."""
        self._unread = door.budget.share()
        self._unread_bytes = 0
        self._unread_since_s: float | None = None

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say why not."""
        super().connection_made(transport)
        self.flow = Flow(transport, self._ahead)
        self._outlet = Outlet(self.loop, transport, self.answered)
        self._departure = Departure(self.flow)
        self._began_s = self.loop.time()
        address = network_of(self.client[0]) if self.client else ""
        reason = self._door.enter(address)
        if not reason:
            self._address = address
            return
        limit, name = (
            (self._limits.connections, "http_connections")
            if reason == "connections"
            else (self._limits.per_address, "http_connections_per_address")
        )
        whose = "" if reason == "connections" else "from one address "
        self._say(Refusal(503, f"{limit} connections {whose}are open at this worker already (setting {name})", reason))
        self._phase = ENDED
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self._address is not None:
            self._door.leave(self._address)
            self._address = None
        self._unread.give_back()
        self._forget_ahead()
        super().connection_lost(exc)
        self._departure.tell()
        self._unset_keepalive_if_required()
        self._outlet.forget()

    def pause_writing(self) -> None:
        """Its client reads more slowly than we answer: what it has not read stays in memory."""
        super().pause_writing()
        self._unread.add(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has read nearly all."""
        super().resume_writing()
        self._unread.give_back()

    def shutdown(self) -> None:
        """The server ends: what is being answered is the last."""
        self._keep = False
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse it, slice by slice: a read of 256 KB can hold 40,000 chunks."""
        if self._phase == ENDED:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        if self._phase == IDLE:
            self._enter(HEAD)
        if len(data) <= SLICE_BYTES:
            self._feed(data)
            return
        for start in range(0, len(data), SLICE_BYTES):
            self._feed(data[start : start + SLICE_BYTES])
            if self._phase == ENDED or self.transport.is_closing():
                break

    def check(self, now_s: float) -> None:
        """Whether it has taken too long; called about once a second."""
        self._check_reader(now_s)
        if self.transport.is_closing():
            return
        took_s = now_s - self._began_s
        if self._phase == ENDED:
            if took_s > LINGER_S:
                self.transport.close()
        elif self.flow.read_paused:
            self._began_s = now_s  # it is we who do not read
            if self.pipeline and has_left(self.transport):
                self.transport.abort()
        elif self._phase == BODY and took_s > self._limits.body_s + self._body_bytes / LEAST_RATE:
            said = f"the body has not arrived within {self._limits.body_s:g} s (setting http_body_s)"
            self._refuse(Refusal(408, said, "slow_body"))
        elif self._phase == HEAD and took_s > self._limits.head_s and not self._answering:
            said = f"line and headers of the request have not arrived within {self._limits.head_s:g} s (setting http_head_s)"
            self._refuse(Refusal(408, said, "slow_head"))

    def answered(self) -> None:
        """The answer on a connection that is not kept is complete."""
        if self._phase == BODY:
            self._linger()
        else:
            self.transport.close()

    # --- the parser's callbacks ---

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._enter(HEAD)
        self._head_bytes = self._around_bytes = self._hosts = 0
        self._coding = b""

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. Those behind a body are nobody's: what they say came too late for everyone who has decided already."""
        if self._phase == BODY:
            return
        self._count_head(len(name) + len(value))
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._coding = value.strip().lower()
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The request begins to be served, while its body may still be on its way."""
        self._check_head()
        if self.parser.should_upgrade():  # then the parser would take the body for another protocol's
            self._without_upgrade = True
            return
        cast("dict[str, Any]", self.scope)[DEPARTURE] = self._departure
        super().on_headers_complete()
        self._enter(BODY)
        self._around_bytes = self._body_bytes = 0
        self.cycle.transport = cast("asyncio.Transport", self._outlet)
        self._keep = self._keep and self.cycle.keep_alive
        self.cycle.keep_alive = False  # until its body has been read

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        size = len(body)
        self._body_bytes += size
        self._around_bytes -= size + size // 8
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        if self._without_upgrade:
            return
        super().on_message_complete()
        self.cycle.keep_alive = self._keep
        self._phase = SERVED

    def on_response_complete(self) -> None:
        """The next request may come, or is there already."""
        if self._phase == ENDED:
            return
        super().on_response_complete()
        if not self.pipeline:
            self._ahead.give_back()
        if self._phase == SERVED and not self._answering:
            self._phase = IDLE
        elif self._phase == HEAD:
            self._began_s = self.loop.time()

    # --- inside ---

    @property
    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _enter(self, phase: str) -> None:
        if self._phase != phase:
            self._phase = phase
            self._began_s = self.loop.time()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse(error.__context__ if isinstance(error.__context__, Refusal) else UNREADABLE)
            return
        self._around_bytes += len(data)
        if self.pipeline:
            self._ahead.add(len(data))
        if self._phase == HEAD and self._around_bytes > self._limits.head_bytes:
            self._refuse(self._long_head())
        elif self._phase == BODY and self._around_bytes > FRAMING_BYTES:
            self._refuse(Refusal(400, "the body comes in chunks far too small; send it in larger ones", "framing"))

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Whoever offers another protocol speaks this one, too: as if the offer had not been made."""
        self._without_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        lines = [f"{self.scope['method']} ".encode() + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._feed(b"\r\n".join([*lines, b"", b""]) + rest)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size + 4
        if self._head_bytes > self._limits.head_bytes:
            raise self._long_head()

    def _long_head(self) -> Refusal:
        said = f"line and headers of the request are longer than {self._limits.head_bytes} bytes (setting http_head_bytes)"
        return Refusal(431, said, "head_bytes")

    def _check_head(self) -> None:
        """What the parser takes and is no request to this server. Raises Refusal."""
        version = self.parser.get_http_version()
        self.scope["method"] = self.parser.get_method().decode("ascii")
        if version not in {"1.0", "1.1"}:
            raise Refusal(505, f"this server speaks HTTP/1.1, not HTTP/{version}")
        if self.scope["method"] == "CONNECT":
            raise Refusal(501, "this server is no proxy")
        if self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise Refusal(400, f"malformed: the request has {self._hosts} headers 'host', and needs one")
        if self._coding and version == "1.0":
            raise Refusal(400, "malformed: HTTP/1.0 has no transfer-encoding")
        if self._coding not in {b"", b"chunked"}:
            raise Refusal(501, "the only transfer-encoding here is chunked")
        if len(self.pipeline) >= PIPELINED:
            raise Refusal(400, f"more than {PIPELINED} requests were sent ahead of their answers", "pipelined")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, if the answer cannot be taken for another request's, and end the connection."""
        cycle = self.cycle
        mine = self._phase == BODY and not self.pipeline
        if self._answering and not (mine and not cycle.response_started):
            self._door.refused[refusal.reason] += 1
            self._phase = ENDED
            self.transport.close()
            return
        self._say(refusal)
        if self._answering:
            cycle.disconnected = True
            cycle.message_event.set()
            self._departure.tell()
        self._linger()

    def _say(self, refusal: Refusal) -> None:
        self._door.refused[refusal.reason] += 1
        self._outlet.flush()
        body = error_body(refusal.status, refusal.message)
        kind, size = "content-type: application/json", f"content-length: {len(body)}"
        head = (f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}", kind, size, "connection: close", "", "")
        self.transport.write("\r\n".join(head).encode() + body)

    def _linger(self) -> None:
        """Say that nothing more comes, and drop what still arrives, for a while."""
        self._enter(ENDED)
        self._body_bytes = 0
        self._forget_ahead()
        if not self.transport.get_write_buffer_size():
            try:
                self.transport.write_eof()
            except OSError:  # its client has gone
                self.transport.abort()
                return
        self.flow.resume_reading()

    def _forget_ahead(self) -> None:
        """What waits for its turn gets none. It shall not keep the connection, nor wait for the garbage collector."""
        for cycle, _ in self.pipeline:
            cycle.on_response = _nothing
        self.pipeline.clear()
        self._ahead.give_back()

    def _drop(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > LINGER_BYTES:
            self.transport.close()

    def _check_reader(self, now_s: float) -> None:
        """An answer that nobody fetches is memory that nobody frees."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unread_since_s = None
        elif self._unread_since_s is None or size > self._unread_bytes:
            self._unread_since_s, self._unread_bytes = now_s, size
        elif now_s - self._unread_since_s > self._limits.body_s + (self._unread_bytes - size) / LEAST_RATE:
            self._door.refused["slow_reader"] += 1
            self.transport.abort()


def _nothing() -> None:
    pass
