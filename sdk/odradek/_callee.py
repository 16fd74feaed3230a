"""What callers know of a handler: where it is reached, and how its argument and its result travel.

`_calls` asks it to encode what somebody passes; `_definition` makes it a handler that the engine can start. A decorated
function is found again by `callee_of`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Literal, cast

from odradek._annotations import Annotations, UndefinedError
from odradek._bad_input import BadInput
from odradek._errors import Misuse
from odradek._guard import Encode
from odradek._serde import JSON, Serde, json_serde

Mode = Literal["plain", "exclusive", "shared", "run"]
HandlerFunction = Callable[..., Coroutine[Any, Any, Any]]

_ATTRIBUTE = "__odradek_handler__"


class Callee:
    """A handler's place and its signature.

    `mode`: plain (of a service), exclusive or shared (of an object), run (of a workflow). `keyed` handlers run for one
    key. `context_type`: what its first parameter is.
    """

    __slots__ = (
        "_annotations", "_argument", "_encode_argument", "_encode_result", "_has_default", "_result",
        "context_type", "fn", "keyed", "mode", "name", "service", "takes_argument", "target",
    )  # fmt: skip

    def __init__(self, service: str, name: str, fn: HandlerFunction, mode: Mode, context_type: type[Any]) -> None:
        self.service = service
        self.name = name
        self.target = f"{service}/{name}"
        self.mode: Mode = mode
        self.keyed = mode != "plain"
        self.context_type = context_type
        self.fn = fn
        self._argument: Serde | None = None
        self._result: Serde | None = None
        self._encode_argument: Encode
        self._encode_result: Encode
        self._check_signature()
        self._annotations = Annotations(fn, self.target)
        self._annotations.try_now(self.resolve)

    def _check_signature(self) -> None:
        if not inspect.iscoroutinefunction(self.fn):
            raise TypeError(f"{self.target}: a handler must be an `async def` function")
        parameters = list(inspect.signature(self.fn).parameters.values())
        if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
            raise TypeError(f"{self.target}: a handler takes the context and at most one argument, both positional")
        if not 1 <= len(parameters) <= 2:
            raise TypeError(
                f"{self.target}: a handler takes the context and at most one argument (a dataclass can hold several), "
                f"not {len(parameters)} parameters"
            )
        self.takes_argument = len(parameters) == 2
        self._has_default = self.takes_argument and parameters[1].default is not inspect.Parameter.empty

    def resolve(self) -> None:
        """Resolve the type hints and choose the serdes. Raises TypeError, naming the handler, when it cannot."""
        if self._result is not None:
            return
        hints = self._annotations.resolve()
        names = list(inspect.signature(self.fn).parameters)
        first = hints.get(names[0], Any)
        if first is not Any and isinstance(first, type) and not issubclass(self.context_type, first):
            raise TypeError(
                f"{self.target}: the first parameter is the context, {self.context_type.__name__}, not {first.__name__}"
            )
        try:
            if self.takes_argument:
                self._argument = json_serde(hints.get(names[1], Any))
                self._encode_argument = self._argument.guard(f"{self.target}: argument")
            self._result = json_serde(hints.get("return", Any))
            self._encode_result = self._result.guard(f"{self.target}: result")
        except NameError as error:
            raise UndefinedError(f"{self.target}: {error}") from error
        except TypeError as error:
            raise TypeError(f"{self.target}: {error}") from error

    @property
    def argument(self) -> Serde:
        """How its argument travels; only for one that takes an argument."""
        self.resolve()
        return cast("Serde", self._argument)

    @property
    def result(self) -> Serde:
        """How its result travels."""
        self.resolve()
        return cast("Serde", self._result)

    def decode(self, payload: bytes) -> tuple[Any, ...]:
        """Decode a call's payload into the arguments that follow the context: one or none. Raises BadInput."""
        if not self.takes_argument:
            if payload and payload != b"null":
                raise BadInput("$", f"{self.target} takes no argument: send an empty body")
            return ()
        if not payload and self._has_default:
            return ()
        serde = self._argument or self.argument
        if not payload and serde.content_type == JSON and not serde.admits_none:
            raise BadInput("$", f"expected {serde.expected} as JSON, but the body is empty")
        return (serde.load(payload),)

    def encode_argument(self, given: bool, value: object) -> bytes:
        """Encode what a caller passes; raises TypeError when it passes one too many or too few, RefusedValue for a wrong one."""
        if given and not self.takes_argument:
            raise Misuse(f"{self.target} takes no argument")
        if not given:
            if self.takes_argument and not self._has_default:
                raise Misuse(f"{self.target} takes an argument: pass it after the handler")
            return b""
        self.resolve()
        return self._encode_argument(value)

    def encode_result(self, value: object) -> bytes:
        """Encode what the function returned. Raises RefusedValue when that would not come back."""
        self.resolve()
        return self._encode_result(value)


def attach(fn: HandlerFunction, handler: Callee) -> None:
    """Let `callee_of(fn)` find `handler`. Raises ValueError when the function is a handler elsewhere already."""
    other = getattr(fn, _ATTRIBUTE, None)
    if other is not None:
        raise ValueError(f"{handler.target}: {fn.__qualname__} is already {other.target}; each handler needs its own function")
    setattr(fn, _ATTRIBUTE, handler)


def callee_of(fn: object) -> Callee:
    """Give the handler that a decorated function is; raises TypeError when it is none."""
    handler = getattr(fn, _ATTRIBUTE, None)
    if not isinstance(handler, Callee):
        raise Misuse(f"{fn!r} is not a handler: decorate it with @service.handler, or name it as 'service/handler'")
    return handler
