"""`python -m odradek_runtime.cli` is `odradek`; the supervisor starts its workers this way."""

from __future__ import annotations

from odradek_runtime.cli import main

main()
