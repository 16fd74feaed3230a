"""Records from outside an app: each batch and the publisher's position in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.append import Append, BadRecordError
from odradek_runtime.log.embedded.disk import DiskError
from odradek_runtime.log.port import LogError, Output

if TYPE_CHECKING:
    from odradek_runtime.log.embedded.catalog import Catalog, Tail


class Names:
    """Which publisher is the newest under each name: an older one is fenced, as a transactional id would do it."""

    def __init__(self) -> None:
        self._newest: dict[str, EmbeddedPublisher] = {}

    def take(self, name: str, publisher: EmbeddedPublisher) -> None:
        self._newest[name] = publisher

    def give_back(self, name: str, publisher: EmbeddedPublisher) -> None:
        if self._newest.get(name) is publisher:
            del self._newest[name]

    def holds(self, name: str, publisher: EmbeddedPublisher) -> bool:
        return self._newest.get(name) is publisher


class EmbeddedPublisher:
    """Implements `log.port.Publisher`."""

    def __init__(
        self,
        catalog: Catalog,
        names: Names,
        name: str,
        *,
        clock: Callable[[], float],
        grown: Callable[[list[Tail]], None],
    ) -> None:
        self._catalog = catalog
        self._names = names
        self._name = name
        self._clock = clock
        self._grown = grown
        with catalog.lock:
            names.take(name, self)

    def position(self) -> int:
        return self._catalog.number(rows.publisher_row(self._name))

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        """Raises LogError; with `retriable` it is safe to ask `position` and go on from there."""
        try:
            with self._catalog.lock:
                if not self._names.holds(self._name, self):
                    raise LogError(f"publisher {self._name!r} was closed or taken over by a newer one", retriable=False)
                self._catalog.reopen()
                append = Append(self._catalog, int(self._clock() * 1000))
                append.outputs(outputs)
                append.number(rows.publisher_row(self._name), position)
                sequence = append.sequence
                try:
                    grown = append.write()
                except DiskError as error:
                    if error.reached is not None:
                        raise
                    self._catalog.reopen()
                    if self._catalog.writes < sequence:
                        raise
                    grown = self._catalog.tails()
        except (BadRecordError, TypeError) as error:
            raise LogError(str(error), retriable=False) from error
        self._grown(grown)

    def close(self) -> None:
        with self._catalog.lock:
            self._names.give_back(self._name, self)
