"""Connectors: ready-made ends of a record's journey (sources, sinks, clients of other systems), built on the SDK alone.

There is none yet. Whatever comes here imports `odradek`, never the runtime; import-linter holds it to that.
"""
