"""When a connection is read from: not while much waits for its turn; and whether its client has left meanwhile."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

if TYPE_CHECKING:
    import asyncio

    from odradek_runtime.http.ingress.budget import Share

CLOSED: int = getattr(select, "POLLRDHUP", 0)
"""Linux's; elsewhere a reset alone is seen."""


class Flow(FlowControl):
    """Reading rests while much waits for its turn: each answer before it, and each look for a body, would let in more."""

    def __init__(self, transport: asyncio.Transport, ahead: Share) -> None:
        super().__init__(transport)
        self._ahead = ahead

    def resume_reading(self) -> None:
        """Unless there is enough."""
        if self._ahead.held_bytes <= HIGH_WATER_LIMIT:
            super().resume_reading()


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the other side has closed, though bytes that nobody has read stand before its end. False where no system tells."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), CLOSED)
    return bool(poll.poll(0))
