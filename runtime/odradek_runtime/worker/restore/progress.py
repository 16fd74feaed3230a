"""How far a restore has come: between the thread that restores and whoever wants to know. `cancelled` is the way to end one."""

from __future__ import annotations

from dataclasses import dataclass

from odradek_runtime.store.store import Store, StoreError


@dataclass(slots=True)
class Progress:
    """How far a restore has come: of the changelog records (offsets) that it has to cover, how many it has."""

    done_records: int = 0
    total_records: int = 0
    cancelled: bool = False
    store: Store | None = None
    """The store, as soon as it is open: a restore that is repeated goes on with it."""
    unusable: StoreError | None = None
    """Why the store that the shard had cannot be used any more."""
    set_aside: bool = False
    """One store has been set aside already: what was built since then is worth no look if it is no good either."""
    trouble: str = ""
    """Why the last attempt came to nothing."""
    answers: int = 0
    """So often the log has brought this restore further."""

    def begin(self, total_records: int) -> None:
        """A new attempt: nothing is covered."""
        self.done_records, self.total_records = 0, total_records

    def cover(self, records: int) -> None:
        """So many in all are covered."""
        self.done_records = min(records, self.total_records)
        self.answers += 1


class Cancelled(Exception):
    """The shard moved on before its restore was done."""
