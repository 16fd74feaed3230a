"""Orders: commands that operators give to shards of a running app, written into its commands topic from outside its epochs.

Stands between the admin API (or a command line on Kafka) and the shards, which take an order as they take any command: once, in an
epoch, checked by `inspection`. An order is known by its id: given again, nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.port import Log, Output


def give(log: Log, app: str, id_: str, commands: Sequence[tuple[int, Command]]) -> bool:
    """Blocks. Write (shard, command) pairs, all or none; False when this order has been given before. Raises LogError.

    Args:
        app: whose shards they are for.
        id_: of the order: the same one is written once, whoever gives it how often.
    """
    publisher = log.publisher(f"{app}.order.{id_}")
    try:
        if publisher.position():
            return False
        outputs = [Output(f"{app}.commands", shard, None, COMMAND.encode(command)) for shard, command in commands]
        publisher.publish(outputs, 1)
        return True
    finally:
        publisher.close()
