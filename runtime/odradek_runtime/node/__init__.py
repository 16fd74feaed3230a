"""A node: a machine or pod, whose worker, ports and log are put together here."""
