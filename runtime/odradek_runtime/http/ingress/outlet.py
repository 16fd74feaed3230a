"""The transport of a connection as an answer sees it: a head and its body in one system call, and a close that can wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

TOGETHER_BYTES = 32 * 1024
"""A longer body is not copied to be written with its head."""


class Outlet:
    """The head of an answer waits for the body that follows it at once. To close is to call `answered`, which may read on first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answered: Callable[[], None]) -> None:
        self._answered: Callable[[], None] | None = answered
        self._loop = loop
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """In the order of the calls, at the end of this turn of the loop at the latest."""
        if self._head:
            if len(data) <= TOGETHER_BYTES:
                data, self._head = self._head + data, b""
            self.flush()
            self._transport.write(data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write what waits."""
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def close(self) -> None:
        """The answer is complete, and the connection is not kept."""
        self.flush()
        if self._answered is not None:
            self._answered()

    def forget(self) -> None:
        """The connection is gone: it shall not be kept by an answer, nor wait for the garbage collector."""
        self._answered = None
