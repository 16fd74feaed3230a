"""The app's own three topics: made at its very first start, never again by accident (invariant 12).

Made again they would be empty, and nothing would say so: state would read as if there had never been any, and records would be
processed a second time. So a topic that is missing is made only where nothing shows that the app has run before; and one that is
another than the journal remembers stops the worker. `odradek run --start-anew` is the way to lose all that on purpose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from odradek_runtime.core.records.formats import Positions, StorePosition
from odradek_runtime.log.port import Log, LogError, Partition, TopicInfo

NAMES = ("journal", "state", "commands")
"""In the order in which they are made: where there are commands, the others are there, too, and nothing is written before."""
LOOKS = 5
LOOK_AGAIN_S = 0.5
"""A worker that starts at the same moment may just have made them, and a broker not have heard of it."""

HOLDS = {
    "journal": "invocations, timers, positions in the inputs",
    "state": "the state of every object",
    "commands": "calls and messages that are under way",
}


@dataclass(frozen=True, slots=True)
class Internal:
    """The internal topics of one app as they were when this worker started: name -> id."""

    app: str
    ids: Mapping[str, str]

    @classmethod
    def look(cls, log: Log, app: str) -> Internal:
        """Raises LogError."""
        found = {name: log.topic(name) for name in names(app)}
        return cls(app, {name: topic.id for name, topic in found.items() if topic is not None})

    def amiss(self, log: Log) -> str:
        """What has become of one of them since, in words; empty when nothing has. Raises LogError."""
        for name, known in self.ids.items():
            topic = log.topic(name)
            if topic is None:
                return f"topic {name} was deleted while the app runs; it held {held(name)}. {ways_out(self.app, [name])}"
            if topic.id != known:
                return made_again(self.app, name)
        return ""

    def cause_of(self, error: Exception, log: Log) -> Exception:
        """What an operator must be told: that an internal topic has gone or was made again, where that ended the worker.

        Whoever meets such a topic first knows only of one partition that is not there, or of an offset that is not.
        """
        if not isinstance(error, LogError) or error.retriable:
            return error
        try:
            amiss = self.amiss(log)
        except LogError:
            return error
        return LogError(amiss, retriable=False) if amiss and amiss != str(error) else error

    def changed(self, topic: TopicInfo) -> bool:
        """Whether this is another topic than the one of its name that was there at the start."""
        return self.ids.get(topic.name, topic.id) != topic.id


def names(app: str) -> list[str]:
    """Their names, in the order in which they are made."""
    return [f"{app}.{name}" for name in NAMES]


def held(topic: str) -> str:
    """What an internal topic holds, in words."""
    return HOLDS[topic.rpartition(".")[2]]


def lost(
    app: str,
    log: Log,
    shards: int,
    inputs: Sequence[TopicInfo],
    stores: Path | None,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Why the missing internal topics must not be made; empty when none is missing, or this is the app's first start.

    A first start that was interrupted has made some of them and written to none: it may go on. Raises LogError.
    """
    look = 1
    while True:
        missing = [name for name in names(app) if log.topic(name) is None]
        signs = _signs(app, log, shards, inputs, stores) if missing else []
        if not signs:
            return ""
        if look == LOOKS:
            break
        look += 1
        pause(LOOK_AGAIN_S)
    are = "topic {} is" if len(missing) == 1 else "topics {} are"
    return (
        f"{are.format(', '.join(missing))} missing, and the app {app!r} has run before ({'; '.join(signs)}). Made again, empty, "
        f"they would be without {'; '.join(map(held, missing))}: all of that would be lost without a word, and records be "
        f"processed a second time. {ways_out(app, missing)}"
    )


def _signs(app: str, log: Log, shards: int, inputs: Sequence[TopicInfo], stores: Path | None) -> list[str]:
    """What shows that the app has run before."""
    signs: list[str] = []
    for name in names(app):
        topic = log.topic(name)
        if topic is not None and any(log.offsets(Partition(name, number))[1] for number in range(topic.partitions)):
            signs.append(f"{name} has been written to")
    partitions = [Partition(f"{app}.commands", number) for number in range(shards)]
    partitions += [Partition(topic.name, number) for topic in inputs for number in range(topic.partitions)]
    committed = sorted({partition.topic for partition in log.committed_offsets(app, partitions)})
    if committed:
        signs.append(f"its group has committed offsets of {', '.join(committed)}")
    if stores is not None and any(stores.glob("*/*")):
        signs.append(f"{stores} holds its state")
    return signs


def refuse_another_life(
    app: str, number: int, at: StorePosition | None, journal: TopicInfo, state: TopicInfo, journal_end: int
) -> None:
    """Raise LogError when the store shows that a changelog was made again: it must not be thrown away for that one's sake."""
    if at is None:
        return
    if at.journal_id == journal.id and at.state_id != state.id:
        raise LogError(f"shard {number}: {made_again(app, state.name)}", retriable=False)
    if at.journal_id != journal.id and at.journal_offset > 0 and journal_end == 0:
        raise LogError(f"shard {number}: {made_again(app, journal.name)}", retriable=False)


def refuse_another_journal(
    app: str, number: int, found: Positions | None, committed: int | None, ids: Mapping[str, str], *, restored: bool
) -> None:
    """Raise LogError when the journal's last record shows that it, or another internal topic, is not what it was.

    Args:
        found: the journal's last positions.
        committed: the group's offset of the shard's commands. It is committed together with a positions record, always.
        ids: of the internal topics, by name, as they are.
        restored: the operator says that topics with other ids are restored copies.
    """
    journal, state, commands = names(app)
    if found is None:
        if committed is not None:
            raise LogError(
                f"shard {number}: {journal}[{number}] is empty, but the app has run before: its group has committed offsets of "
                f"{commands}. {ways_out(app, [journal])}",
                retriable=False,
            )
        return
    if restored:
        return
    remembered = {journal: found.journal_id, state: found.state_id}
    remembered.update((place.topic, place.topic_id) for place in found.inputs if place.topic == commands)
    for name, id_ in remembered.items():
        if id_ not in ("", ids.get(name, id_)):
            raise LogError(f"shard {number}: {made_again(app, name)}", retriable=False)


def made_again(app: str, topic: str) -> str:
    """Say that a topic is not the one that the app wrote to."""
    return (
        f"topic {topic} was deleted and made again: it is not the one that the app {app!r} wrote to, which held {held(topic)}. "
        f"{ways_out(app, [topic])}"
    )


def ways_out(app: str, missing: Sequence[str]) -> str:
    """What an operator can do."""
    return (
        f"Ways out: restore {', '.join(missing)} from a copy, and start once with --restored-topics · start anew on purpose, "
        "without all state, invocations, timers and positions of this app: odradek run … --start-anew (its inputs are read from "
        f"start= again) · run it under another name than {app!r}"
    )
