"""The command line: `odradek dev | run | publish | consume | call | topics`: starts workers and talks to them."""

from __future__ import annotations

from odradek_runtime.cli.main import main

__all__ = ["main"]
