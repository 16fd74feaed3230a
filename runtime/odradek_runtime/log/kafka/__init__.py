"""The log on Kafka: reads, transacts, fences and restores through librdkafka."""

from odradek_runtime.log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
