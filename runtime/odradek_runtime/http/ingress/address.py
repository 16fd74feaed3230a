"""What a path means: `/{service}/{handler}`, `/{object}/{key}/{handler}`, and what may be appended.

It is read from the raw path, because a key may hold an escaped slash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import unquote, unquote_to_bytes

from odradek_runtime.http.ingress.errors import HttpError, bad_field, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from odradek._definition import Handler

Action = Literal["call", "send", "attach", "output"]
_SUFFIXES = ("send", "attach", "output")


@dataclass(frozen=True, slots=True)
class Address:
    """A handler, the object key (b"" for a service) and what to do with it."""

    handler: Handler
    key: bytes
    action: Action


class Directory:
    """The public face of an app's handlers: finds one by its path, or says what there is. It knows of no other."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._services: dict[str, dict[str, Handler]] = {}
        for handler in handlers.values():
            if handler.public:
                self._services.setdefault(handler.service, {})[handler.name] = handler

    def find(self, raw_path: bytes) -> Address:
        """Raises HttpError 404 (no such service, handler or form of path) or 400 (an empty key)."""
        segments = raw_path.decode("latin-1").removeprefix("/").split("/")
        service = unquote(segments[0])
        handlers = self._services.get(service)
        if handlers is None:
            raise HttpError(404, f"no service {service!r}{suggestion(service, self._services, 'services')}")
        keyed = next(iter(handlers.values())).keyed
        rest = segments[1:]
        key = b""
        if keyed:
            if len(rest) < 2:
                raise HttpError(404, f"{service!r} is addressed by key: /{service}/{{key}}/{{handler}}")
            key = unquote_to_bytes(rest.pop(0))
            if not key:
                raise bad_field("key", f"is empty; {service!r} is addressed by key: /{service}/{{key}}/{{handler}}")
        return Address(self._handler(service, handlers, rest), key, self._action(service, rest, keyed=keyed))

    def _handler(self, service: str, handlers: Mapping[str, Handler], rest: list[str]) -> Handler:
        name = unquote(rest[0]) if rest else ""
        handler = handlers.get(name)
        if handler is None:
            raise HttpError(404, f"{service!r} has no handler {name!r}{suggestion(name, handlers, 'handlers')}")
        return handler

    def _action(self, service: str, rest: list[str], *, keyed: bool) -> Action:
        if len(rest) == 1:
            return "call"
        if len(rest) == 2 and rest[1] in _SUFFIXES:
            return cast("Action", rest[1])
        form = f"/{service}/{{key}}/{rest[0]}" if keyed else f"/{service}/{rest[0]}"
        hint = "; a slash in a key is written %2F" if keyed else ""
        raise HttpError(404, f"expected {form} or {form}/send|attach|output{hint}")
