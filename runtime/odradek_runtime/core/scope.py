"""The scope: what every part of the core has before it. The app's definitions, the shards that are here, the open epoch, the time.

Stands below all parts of the machine, which is a scope itself: a part is given it, and what it needs of other parts beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from odradek import App
from odradek._definition import Handler, Subscription
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.awakeable_ids import AwakeableIds
from odradek_runtime.core.records.dead_letter import letters
from odradek_runtime.core.records.formats import Command
from odradek_runtime.core.records.journal_limit import JournalLimit
from odradek_runtime.core.topics.sizes import Sizes
from odradek_runtime.core.topics.targets import Targets

from .disclosure import Disclosure
from .epoch import Epoch
from .handler_loop import HandlerLoop
from .locks import Queued
from .metrics import Metrics
from .shard import Shard


class Scope:
    """Of one worker. Everything in it is of the open epoch, and of the moment that the turn began with."""

    def __init__(self, app: App, shards: int, settings: Settings, targets: Targets, metrics: Metrics, loop: HandlerLoop) -> None:
        self.app = app
        self.n = shards
        self.targets = targets
        self.max_record_bytes = settings.max_record_bytes
        self.disclosure = Disclosure(shown=settings.errors_shown)
        self.awakeable_ids = AwakeableIds(app.name, settings.awakeable_secret.split())
        self.sizes = Sizes(app.name, targets, settings.max_record_bytes, lambda: self.steady_ms)
        self.journal_limit = JournalLimit(settings.journal_entries, settings.journal_bytes)
        self.metrics = metrics
        self.loop = loop
        self.handlers: Mapping[str, Handler] = app.handlers()
        self.bases = {handler.service: keys.state_prefix(handler.service) for handler in self.handlers.values()}
        self.subscriptions: dict[str, list[Subscription]] = {}
        for subscription in app.subscriptions():
            self.subscriptions.setdefault(subscription.topic.name, []).append(subscription)
        self.commands_topic = f"{app.name}.commands"
        self.dead_letters = f"{app.name}.dead-letters"
        self.letters = letters(app)
        """The topics that take dead letters."""
        self.shards: dict[int, Shard] = {}
        self.handover_limit = settings.epoch_events
        self.now_ms = 0.0
        """The wall clock: due times, and what people see."""
        self.steady_ms = 0.0
        """Durations."""
        self.look_at_clock: Callable[[], None] = _as_it_is
        """Brings both up to date: what runs in a turn takes time. The engine's."""
        self.epoch = Epoch(1)
        self.ready: deque[tuple[Shard, Queued | str]] = deque()
        """Invocations that have waited, in the journal or since this epoch began, and may begin now: theirs is a key, or a turn."""
        self.poison: dict[str, str] = {}
        self.bare: set[str] = set()
        """Suspects whose dead letter was refused as well: it goes without what came in."""
        self.splitting = False
        """Epochs are kept small to find the invocation whose record the log refuses: nothing is handed over within one."""

    def touch(self, shard: Shard) -> None:
        """The epoch has something of this shard: it will carry its fence and its positions."""
        self.epoch.touched[shard.number] = shard

    def base(self, service: str, key: bytes) -> bytes:
        """What the state keys of an object's key begin with."""
        return self.bases[service] + keys.escape(key)

    def subscription_of(self, command: Command) -> Subscription | None:
        """What a forwarded record is for; None if the app no longer has it."""
        found = [s for s in self.subscriptions.get(command.topic, ()) if s.handler.target == command.target]
        return found[0] if found else None

    def condemn(self, root: str) -> str | None:
        """Why the log refused a suspect; None if it is not one."""
        why = self.poison.pop(root, None)
        if why is not None:
            self.epoch.condemned[root] = why
        return why


def _as_it_is() -> None:
    """Without an engine, time stands still."""
