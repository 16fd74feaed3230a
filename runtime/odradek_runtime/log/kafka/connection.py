"""The connection to the transaction coordinator, watched: that it dropped is known before the commit returns.

Stands in each producer. librdkafka resends a commit over a new connection without a word, and the first one, arriving
late, then ends the *next* transaction. Its statistics tell of it at intervals, repeated errors are suppressed; but
every change of a connection's state is a line of its broker log, written before anything is sent again. Another line tells
that a transaction has failed, for a record's sake say, while calls that wait for the records behind it do not return.
"""

from __future__ import annotations

from odradek_runtime.log.kafka.trouble import LibraryLog

_COORDINATOR = "TxnCoordinator"
_WATCHED = frozenset({"STATE", "REQTMOUT"})


class CoordinatorWatch(LibraryLog):
    """A log taker for one producer made with `debug=broker`. Lines arrive when the producer is polled."""

    def __init__(self) -> None:
        self.connected = 0
        self.lost = 0
        self.failed = ""
        """Why the transaction under way can only be aborted."""

    def log(self, level: int, _format: str, facility: str, client: str, line: str) -> None:
        """Count the coordinator's connections and their ends; everything else goes the usual way."""
        if facility in _WATCHED and _COORDINATOR in line:
            if facility == "REQTMOUT" or "state UP ->" in line:
                self.lost += 1
            elif line.endswith("-> UP"):
                self.connected += 1
        elif facility == "TXNERR":
            self.failed = line
        super().log(level, _format, facility, client, line)
