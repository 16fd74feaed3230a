"""A file (or stdin) as rows: JSON lines or CSV, plain, gzipped or zipped. First station of `odradek publish`.

Rows are read lazily. A row that cannot be read is a `BadRow`, a value like the others: its meaning is the caller's.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import msgspec

from odradek_runtime.cli.errors import USAGE, CommandError, counted

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

Format = Literal["jsonl", "csv"]
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `raw` is a JSON line as it was written; None for CSV, whose cells are all text (`fields`)."""

    line: int
    fields: Any
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot become a record: the line where it is, its field ("" = the whole line) and why."""

    line: int
    field: str
    reason: str


class Source:
    """Where rows come from. Use it as a context manager, iterate `rows()` once.

    >>> with Source("-", "jsonl") as source: ...
    """

    def __init__(self, name: str, format: Format | None) -> None:
        """`name`: a path, or "-" for stdin. Raises CommandError: no such file, or a format that cannot be told.

        A pipe or a device with a path (`<(…)`, /dev/stdin) is read as stdin is: as it comes, and no later run finds it again.
        """
        self.name = "stdin" if name == "-" else name
        self._path = None if name == "-" else Path(name)
        if self._path is not None and (self._path.is_dir() or not self._path.exists()):
            what = "is a folder" if self._path.is_dir() else "does not exist"
            raise CommandError(f"{name} {what}", "give a file, or - for standard input", code=USAGE)
        self._seekable = self._path is not None and self._path.is_file()
        self._format: Format | None = format
        self._stack = ExitStack()
        self._raw: IO[bytes] | None = None
        self._text: IO[bytes] = io.BytesIO()
        self._member = ""

    @property
    def identity(self) -> str | None:
        """What names this source across runs: the absolute path; None for stdin and pipes."""
        return str(self._path.resolve()) if self._path is not None and self._seekable else None

    @property
    def format(self) -> Format:
        """Jsonl or csv, as asked for or as the file's name says. Raises CommandError when neither does."""
        if self._format is not None:
            return self._format
        if self._path is None:
            return "jsonl"
        name = self._member or self._path.name.removesuffix(".gz").removesuffix(".zip")
        found = _SUFFIXES.get(Path(name).suffix.lower())
        if found is None and not self._seekable:
            return "jsonl"
        if found is None:
            raise CommandError(
                f"cannot tell the format of {self.name} from its name", "add --format csv or --format jsonl", code=USAGE
            )
        return found

    @property
    def size_bytes(self) -> int | None:
        """Size of the file as it lies on disk; None for stdin and pipes."""
        return self._path.stat().st_size if self._path is not None and self._seekable else None

    def done_bytes(self) -> int:
        """How much of `size_bytes` has been read."""
        return self._raw.tell() if self._raw is not None and self._seekable else 0

    def __enter__(self) -> Source:
        if self._path is None:
            self._text = sys.stdin.buffer
            return self
        with ExitStack() as opening:
            try:
                raw = self._raw = opening.enter_context(self._path.open("rb"))
            except OSError as error:
                raise CommandError(f"{self.name} cannot be read: {error.strerror or error}", code=USAGE) from None
            if self._path.suffix == ".gz":
                self._text = cast("IO[bytes]", opening.enter_context(gzip.GzipFile(fileobj=raw)))
            elif self._path.suffix == ".zip" and self._seekable:
                self._text = self._open_zip(raw, opening)
            else:
                self._text = raw
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def rows(self) -> Iterator[Row | BadRow]:
        """Every row, bad ones included; empty lines are no rows. Lines are numbered from 1, the header counted."""
        rows = self._read()
        self._stack.callback(rows.close)
        return rows

    def _read(self) -> Generator[Row | BadRow]:
        rows = _csv_rows(self._text) if self.format == "csv" else _json_rows(self._text)
        try:
            yield from rows
        except (EOFError, OSError, zlib.error) as error:
            raise CommandError(f"{self.name} cannot be read to its end: {error}", "check that it was copied whole") from None

    def _open_zip(self, raw: IO[bytes], opening: ExitStack) -> IO[bytes]:
        try:
            archive = opening.enter_context(zipfile.ZipFile(raw))
        except zipfile.BadZipFile:
            raise CommandError(f"{self.name} is not a zip file", "unpack it, or check that it was copied whole") from None
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise CommandError(f"{self.name} holds {len(members)} files", "unpack it and publish them one by one", code=USAGE)
        self._member = members[0]
        return opening.enter_context(archive.open(members[0]))


def _json_rows(lines: IO[bytes]) -> Iterator[Row | BadRow]:
    decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            yield Row(number, decode(text), text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield BadRow(number, "", f"not JSON: {error}")


def _csv_rows(stream: IO[bytes]) -> Iterator[Row | BadRow]:
    # Bytes that are not UTF-8 become surrogates here and are found, field by field, when the row is encoded.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _cells(csv.reader(text, strict=True))
    finally:
        # The stream is the source's to close: a wrapper that is thrown away would close it.
        text.detach()


def _cells(reader: CsvReader) -> Iterator[Row | BadRow]:
    try:
        columns = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"line 1 is no CSV header: {error}", "the first line must name the columns") from None
    if columns is None:
        return
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise CommandError(f"the header names a column twice: {', '.join(twice)}", "rename it in the first line")
    width = len(columns)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(reader.line_num, "", f"not CSV: {error}")
            continue
        if len(cells) == width:
            yield Row(reader.line_num, dict(zip(columns, cells, strict=True)), None)
        elif cells:
            yield BadRow(reader.line_num, "", f"{counted(len(cells), 'cell')} where the header names {counted(width, 'column')}")
