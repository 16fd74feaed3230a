"""Unions that msgspec takes and gets wrong: it keeps a tuple's length in the place of another member's limit.

Stands before `_checks`: what is found here must not reach msgspec at all, whose decoder of it crashes the process.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from odradek._pydantic import parts_of

LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")


def refuse_unions(hint: Any, name: str) -> None:
    """Raise TypeError where a tuple of fixed length and a type with limits are members of one union."""
    for path, part, _ in parts_of(hint):
        if get_origin(part) not in (Union, types.UnionType):
            continue
        members = [_opened(member) for member in get_args(part)]
        if any(fixed for fixed, _ in members) and any(limited for _, limited in members):
            raise TypeError(
                f"no serde for {name}: at {path}: a tuple of fixed length and a type with limits (ge=, max_length= …) in one "
                "union cannot be told apart; use a NamedTuple or a dataclass for the tuple, or check the limits yourself"
            )


def _opened(member: Any) -> tuple[bool, bool]:
    """Tell whether it is a tuple of fixed length, and whether it has limits."""
    limited = False
    while True:
        if hasattr(member, "__supertype__"):  # a NewType
            member = member.__supertype__
        elif get_origin(member) is Annotated:
            member, *metadata = get_args(member)
            limited |= any(_limits(one) for one in metadata)
        else:
            break
    args = get_args(member)
    return get_origin(member) is tuple and bool(args) and args[-1] is not Ellipsis, limited


def _limits(one: Any) -> bool:
    return isinstance(one, msgspec.Meta) and any(getattr(one, name) is not None for name in LIMITS)
