"""Journals that stay after the end: which handlers keep theirs, and what such a journal must hold."""

from collections.abc import Mapping

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import ENDED, INVOCATION
from odradek_runtime.core.records.journal import Journal

KEPT_S = 40.0
TARGETS = ("lim/do", "tim/do", "doomed/do")


def is_kept(view: Mapping[bytes, bytes], chunk: bytes) -> bool:
    """Whether a part of a journal is one that stays: its invocation has ended, is still there, and has a handler that says so."""
    entry = view.get(keys.invocation(_owner(chunk)))
    stored = INVOCATION.decode(entry) if entry is not None else None
    return stored is not None and stored.status in ENDED and stored.target in TARGETS


def flaw(view: Mapping[bytes, bytes], id_: str) -> str:
    """What is wrong with the journal of one that has ended. "" if nothing is."""
    journal = Journal.load(sorted((key, value) for key, value in view.items() if key.startswith(keys.chunks(id_))))
    if [entry.ref for entry in journal.commands] != list(range(len(journal.commands))):
        return f"the journal of {id_} has gaps"
    kept = INVOCATION.decode(view[keys.invocation(id_)])
    if kept.status == "completed" and not journal.commands and kept.result not in (b"null", b"[]"):
        return f"{id_} has ended with {kept.result!r}, and its journal says that it did nothing"
    return ""


def _owner(chunk: bytes) -> str:
    return chunk[1 : chunk.index(b"/")].decode()
