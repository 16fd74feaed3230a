"""A deployment: one app of a world, on its topics, with the auditor who watches what it commits."""

from __future__ import annotations

from dataclasses import dataclass

from odradek import App
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.group import Group

from .audit import Audit


@dataclass(frozen=True)
class Deployment:
    """What all workers of one app share."""

    app: App
    shards: int
    audit: Audit
    brokers: Brokers

    @property
    def name(self) -> str:
        return self.app.name

    @property
    def group(self) -> Group:
        return self.brokers.group(self.app.name, self.shards)

    @property
    def inputs(self) -> list[str]:
        """The topics that it reads, its own commands among them."""
        return [*dict.fromkeys(s.topic.name for s in self.app.subscriptions()), f"{self.app.name}.commands"]
