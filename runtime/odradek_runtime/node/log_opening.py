"""Which log the settings name. Workers and commands open it here, so that they always mean the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odradek_runtime.configuration.settings import Settings
    from odradek_runtime.log.port import Log


def open_log(settings: Settings) -> Log:
    """Kafka's log when `bootstrap_servers` is set, else the embedded one below `data_dir`. Raises LogError.

    The client library is loaded here and not before: who needs one of them need not wait for the other.
    """
    if settings.bootstrap_servers:
        from odradek_runtime.log.kafka import KafkaLog

        return KafkaLog(
            settings.bootstrap_servers,
            options=settings.kafka,
            session_timeout_s=settings.session_timeout_s,
            transaction_timeout_s=settings.transaction_timeout_s,
            group_protocol=settings.group_protocol,
            group_instance_id=settings.group_instance_id,
            replication_factor=settings.replication_factor,
            producer_processes=settings.producer_processes,
            fetched_bytes=settings.shares.fetched_bytes,
        )
    from odradek_runtime.log.embedded import EmbeddedLog

    return EmbeddedLog(settings.data_dir / "log", fsync=settings.fsync)
