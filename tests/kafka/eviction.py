"""Puts a member out of its group behind its back, as an expired session does, without the wait for it.

Stands beside the log: it speaks to the group's coordinator over a socket of its own.
"""

import socket
import struct

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster

LEAVE_GROUP = 13


def evict(bootstrap_servers: str, group: str, incarnation: str) -> None:
    """Remove the member whose client id ends with this incarnation from a classic group of a single-broker cluster.

    Raises:
        LookupError: the group has no such member.
        RuntimeError: the coordinator refused.
    """
    members = Cluster(Clients(bootstrap_servers, {}), 0, 10.0).members(group)
    member_ids = [member.member_id for member in members if member.client_id.endswith(f"#{incarnation}")]
    if not member_ids:
        raise LookupError(f"group {group} has no member {incarnation}")
    host, port = bootstrap_servers.split(",")[0].rsplit(":", 1)
    request = struct.pack(">hhi", LEAVE_GROUP, 1, 1) + _text("test") + _text(group) + _text(member_ids[0])
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(64)
    (error,) = struct.unpack_from(">h", answer, 4 + 4 + 4)  # behind size, correlation id and throttle time
    if error != 0:
        raise RuntimeError(f"the coordinator refused to let the member leave: error {error}")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded
