"""The log on a real Kafka: every rule of it that was bought with an experiment, as a test."""
