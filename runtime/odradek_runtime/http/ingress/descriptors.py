"""File descriptors: each connection is one, and a process that has used up its own can neither accept, nor open a store."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("odradek.ingress")

OTHERS = 512
"""Kept for stores, the log, pipes and peers."""
FEWEST = 16


def places_for(wanted: int) -> int:
    """How many of the connections that are wanted there can be; the process' own limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + OTHERS
    if soft < needed:
        reach = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (reach, hard))
            soft = reach
        except (OSError, ValueError):  # macOS has a limit of its own below an infinite one
            pass
    places = max(min(wanted, soft - OTHERS), FEWEST)
    if places < wanted:
        log.warning(
            "%d connections at most, not %d (setting http_connections): the process may open %d files: raise that (ulimit -n)",
            places, wanted, soft,
        )  # fmt: skip
    return places
