"""What strangers write reaches a terminal and a log as text: no line is forged, no screen cleared."""

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from odradek_runtime.cli import errors
from odradek_runtime.cli.errors import CommandError
from odradek_runtime.cli.log_format import JsonFormatter, TextFormatter
from odradek_runtime.cli.printable import one_line, printable
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output
from tests.cli.conftest import Run

EVIL = "a\x1b[2J\x07\x9b31m\r2026-01-01T00:00:00.000+00:00 ERROR forged\u2028\u202eb\x7f"
FORGED = "\n2026-01-01T00:00:00.000+00:00 ERROR   forged"


def harmless(text: str) -> bool:
    controls = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n", "\t"} | {"\u2028", "\u2029", "\u202e"}
    return not controls & set(text)


def test_control_characters_are_escaped_and_nothing_else() -> None:
    assert harmless(printable(EVIL))
    assert printable("ä € 😀 \t\n") == "ä € 😀 \t\n"
    assert one_line("a\tb\nc\x85") == "a\\tb\\nc\\u0085"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_record_of_a_log_is_one_record_whatever_is_in_it(formatter: logging.Formatter) -> None:
    error = ValueError(EVIL + FORGED)
    record = logging.LogRecord("users", logging.ERROR, __file__, 1, "bad: %s", (EVIL + FORGED,), (ValueError, error, None))
    text = formatter.format(record)
    assert harmless(text)
    assert [line for line in text.split("\n")[1:] if not line.startswith("  ")] == []


def test_an_error_of_a_command_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(errors, "err", lambda: Console(file=said, highlight=False, soft_wrap=True))
    errors.explain(CommandError(f"no topic {EVIL}", EVIL), debug=True)
    errors.explain(ValueError(EVIL), debug=True)
    assert harmless(said.getvalue())


@pytest.mark.parametrize("format", ["json", "table"])
def test_consume_shows_records_harmlessly(run: Run, folder: Path, format: str) -> None:
    values = [EVIL.encode(), json.dumps({"n": EVIL}, ensure_ascii=False).encode(), b'{"a":\r\n\t1}', b'"\xc2\x9b"', b"\x1b\xff"]
    log = EmbeddedLog(folder / ".odradek" / "log")
    log.create_topic("t", 1, {})
    publisher = log.publisher("stranger")
    publisher.publish([Output("t", 0, EVIL.encode(), value, [(EVIL, EVIL.encode())]) for value in values], 1)
    publisher.close()
    log.close()
    shown = run("consume", "t", "--format", format, "--key", "--headers").stdout
    assert harmless(shown)
    lines = shown.splitlines()
    assert len(lines) == len(values) + (format == "table")
    if format == "json":
        assert json.loads(lines[1])["value"] == {"n": EVIL}
        assert json.loads(lines[0])["key"] == EVIL
        assert json.loads(lines[2])["value"] == {"a": 1}
