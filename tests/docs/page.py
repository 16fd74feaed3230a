"""A page of docs/ as a series of acts: files to write and commands to run, in the order in which they stand.

What a page may hold:

- a block of `python`, `toml`, `json` or `csv` whose first line is `# name` (or `// name`) is the content of that file;
- a block of `console` has commands, each a line that begins with `$ ` (and goes on after a backslash), and what they print;
  `...` stands for anything, within a line or for any number of lines;
- `<!-- until -->` before a console block: repeat it until it prints that, for what happens a moment later;
- `<!-- not run: why -->` before any block: it is shown, not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^(?:#|//) (?P<name>[\w./-]+\.\w+)\n")
FILES = ("python", "toml", "json", "csv")


@dataclass(frozen=True, slots=True)
class File:
    """A file as the page shows it, without its name's line where that would be no part of it."""

    line: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what it prints; `repeat`: until it does."""

    line: int
    text: str
    printed: str
    repeat: bool


class PageError(Exception):
    """A block that cannot be followed: says the page, the line and what is wrong with it."""


def acts(path: Path) -> Iterator[File | Command]:
    """Everything that a reader of the page would do."""
    page = path.read_text()
    for block in BLOCK.finditer(page):
        line = page.count("\n", 0, block.start("text")) + 1
        mark, kind, text = block["mark"] or "", block["kind"], block["text"]
        if mark.startswith("not run:"):
            continue
        if kind in FILES:
            named = NAME.match(text)
            if named is None:
                raise PageError(f"{path.name}:{line}: a block of {kind} needs the name of its file in the first line, as a comment")
            yield File(line, named["name"], text if kind in ("python", "toml") else text[named.end() :])
        elif kind == "console":
            yield from _commands(path, line, text, repeat=mark == "until")


def _commands(path: Path, line: int, text: str, *, repeat: bool) -> Iterator[Command]:
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if parts[0].strip():
        raise PageError(f"{path.name}:{line}: a console block begins with a command, '$ …'")
    for part in parts[1:]:
        command = re.match(r"(?:[^\n]*\\\n)*[^\n]*", part)
        assert command is not None
        yield Command(line, command[0].replace("\\\n", ""), part[command.end() :].strip("\n"), repeat)
