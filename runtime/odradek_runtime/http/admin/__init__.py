"""Admin: health, readiness, metrics, and the topics for commands beside a running worker."""
