"""A deployment: one app of a world, on its topics, with the auditor who watches what it commits."""

from __future__ import annotations

from dataclasses import dataclass

from odradek import App

from .audit import Audit
from .group import SimGroup
from .log import SimLog


@dataclass(frozen=True)
class Deployment:
    """What all workers of one app share."""

    app: App
    shards: int
    audit: Audit
    log: SimLog

    @property
    def name(self) -> str:
        return self.app.name

    @property
    def group(self) -> SimGroup:
        return self.log.group(self.app.name, self.shards)

    @property
    def inputs(self) -> list[str]:
        """The topics that it reads, its own commands among them."""
        return [*dict.fromkeys(s.topic.name for s in self.app.subscriptions()), f"{self.app.name}.commands"]
