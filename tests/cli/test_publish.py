"""`odradek publish`: files become records with keys and types; bad rows are named; an interruption costs and doubles nothing."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, command, environment
from tests.cli.workers import Serving


def records(run: Run, topic: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("consume", topic, "--key", "--meta").stdout.splitlines()]


def values(run: Run, topic: str) -> list[Any]:
    return [record["value"] for record in records(run, topic)]


def test_json_lines_keep_their_text_and_take_their_key_from_a_field(run: Run, folder: Path) -> None:
    lines = ['{"id": 7,  "who": "bob"}', "", '{"id": 8, "who": null}', '{"id": 9}', '{"id": 10, "who": 3}']
    (folder / "a.jsonl").write_text("\n".join(lines))
    said = run("publish", "people", "a.jsonl", "--key", "who", "--create", "--partitions", "1")
    assert "published 4 records to people" in said.stdout
    assert "2 without key" in said.stdout
    assert [record["key"] for record in records(run, "people")] == ["bob", None, None, "3"]
    assert lines[0] in run("consume", "people", "--format", "raw").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 7, "who": "bob"}\n{"id": 8, "age": 3}\n', "there are: id, who, age\n"),
        ('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}', "there are: a, b, c, d, e, f, g, h …\n"),
        ("1\n2\n", "there is none\n"),
    ],
)
def test_a_key_that_no_row_has_is_warned_of(run: Run, folder: Path, text: str, said: str) -> None:
    (folder / "a.jsonl").write_text(text)
    warned = run("publish", "people", "a.jsonl", "--key", "nokey", "--create")
    assert warned.stderr.endswith(f"warning: --key nokey: no row has this field; {said}")
    assert "warning" not in run("publish", "people", "a.jsonl").output
    assert "warning" not in run("publish", "people", "a.jsonl", "--key", "nokey", "--resume").output
    (folder / "b.jsonl").write_text(text + '\n{"nokey": null}')
    assert "warning" not in run("publish", "people", "b.jsonl", "--key", "nokey").output


def test_csv_without_a_type_is_guessed_per_column_and_said(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("n,price,code,on,name\n1,2.5,007,true,\n,3,008,false,ann\n")
    said = run("publish", "t", "a.csv", "--create", "--partitions", "1")
    assert "n int, price float, code str, on bool, name str" in said.stderr
    assert values(run, "t") == [
        {"n": 1, "price": 2.5, "code": "007", "on": True, "name": ""},
        {"n": None, "price": 3.0, "code": "008", "on": False, "name": "ann"},
    ]


def test_a_column_can_be_given_its_type(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("n,m\n1,2\n")
    run("publish", "t", "a.csv", "--create", "--column", "n=str")
    assert values(run, "t") == [{"n": "1", "m": 2}]


def test_null_is_a_literal_in_csv_and_in_json(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("n,name\nNA,NA\n1,\n")
    (folder / "b.jsonl").write_text('{"n": "NA", "m": "x"}')
    run("publish", "t", "a.csv", "--create", "--partitions", "1", "--null", "NA", "--key", "name")
    run("publish", "t", "b.jsonl", "--null", "NA")
    assert values(run, "t") == [{"n": None, "name": None}, {"n": 1, "name": ""}, {"n": None, "m": "x"}]
    assert [record["key"] for record in records(run, "t")] == [None, "", None]


def test_types_come_from_the_topic(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("customer,cents,note,colour\n007,5,,red\nbob,6,hi,blue\n")
    said = run("publish", "orders", "a.csv", "--create", "--partitions", "1", "--app", "shop:app", "--key", "customer")
    assert "left out: colour" in said.stderr
    assert values(run, "orders") == [
        {"customer": "007", "cents": 5, "note": ""},
        {"customer": "bob", "cents": 6, "note": "hi"},
    ]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("a.csv", "customer,cents\nbob,5\nann,five\n", "a.csv, line 3, field cents: Expected `int`, got `str` ('five')"),
        ("a.csv", "customer,cents\nbob,5\nann\n", "a.csv, line 3: 1 cell where the header names 2 columns"),
        ("a.jsonl", '{"customer": "b", "cents": 1}\n{"customer": "b"}\n', "a.jsonl, line 2, field cents"),
        ("a.jsonl", '{"customer": "b", "cents": 1}\n{"customer"\n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"customer": "b", "cents": 1}\n{"customer": "b", "cents": "x"}\n', "a.jsonl, line 2, field cents"),
    ],
)
def test_a_bad_row_is_named_and_resume_goes_on_after_its_correction(
    run: Run, folder: Path, file: str, text: str, said: str
) -> None:
    (folder / file).write_text(text)
    args = ("publish", "orders", file, "--app", "shop:app")
    failed = run(*args, "--create", "--partitions", "1", ok=False)
    assert failed.exit_code == 1
    assert said in failed.stderr
    assert "published before it: 1 record; correct it" in failed.stderr
    assert "Traceback" not in failed.output
    good, bad = (folder / file).read_text().splitlines()[-2:]
    (folder / file).write_text(text.replace(bad, good))
    assert "published 1 record to" in run(*args, "--resume").stdout
    assert len(values(run, "orders")) == 2


def test_skip_bad_counts_and_goes_on(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"customer,cents\nbob,5\nx,y\n\xff\xfe,7\nann,6\n" + b'z,"1' + b"\n")
    said = run("publish", "orders", "a.csv", "--create", "--partitions", "1", "--app", "shop:app", "--skip-bad")
    assert "published 2 records" in said.stdout
    assert "3 bad rows left out" in said.stdout
    assert [value["customer"] for value in values(run, "orders")] == ["bob", "ann"]


def test_a_field_that_is_not_utf8_is_named(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"customer,cents\n\xff,7\n")
    said = run("publish", "t", "a.csv", "--create", ok=False)
    assert "a.csv, line 2, field customer: is not UTF-8" in said.stderr


def test_a_value_beyond_the_guess_says_how_to_tell_the_type(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("n\n" + "1\n" * 1000 + "x\n")
    said = run("publish", "t", "a.csv", "--create", ok=False)
    assert "line 1,002, field n" in said.stderr
    assert "--column n=str" in said.stderr


def test_a_record_over_the_limit_is_a_bad_row(run: Run, folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"a": 1}\n"' + "x" * 1_048_588 + '"\n')
    said = run("publish", "t", "a.jsonl", "--create", ok=False)
    assert "line 2: a record of 1,048,664 bytes, and t takes 1,048,588" in said.stderr


@pytest.mark.parametrize("form", ["a.csv.gz", "a.zip", "-"])
def test_packed_files_and_standard_input(run: Run, folder: Path, form: str) -> None:
    text = "n,s\n1,x\n2,y\n"
    if form == "a.csv.gz":
        (folder / form).write_bytes(gzip.compress(text.encode()))
    elif form == "a.zip":
        with zipfile.ZipFile(folder / form, "w") as archive:
            archive.writestr("inner.csv", text)
    flags = ["--format", "csv"] if form == "-" else []
    run("publish", "t", form, "--create", *flags, "--partitions", "1", stdin=text)
    assert values(run, "t") == [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]


@pytest.mark.parametrize(("name", "text"), [("pipe", '{"n": 1}\n{"n": 2}\n'), ("pipe.csv", "n\n1\n2\n"), ("zero.gz", "")])
def test_a_pipe_with_a_name_is_read_as_it_comes(run: Run, folder: Path, name: str, text: str) -> None:
    os.mkfifo(folder / name)
    packed = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    for number in range(2):
        writer = threading.Thread(target=(folder / name).write_bytes, args=(packed,), daemon=True)
        writer.start()
        said = run("publish", "t", name, "--create", "--partitions", "1", "--resume", "--name", f"run {number}")
        writer.join(10)
        assert f"published {2 if text else 0} records" in said.stdout
    assert values(run, "t") == ([{"n": 1}, {"n": 2}] * 2 if text else [])


def test_devices_are_read_and_folders_are_not(run: Run, folder: Path) -> None:
    assert "published 0 records" in run("publish", "t", "/dev/null", "--create").stdout
    args = command(["publish", "t", "/dev/stdin"])
    done = subprocess.run(args, env=environment(), input="1\n2\n", capture_output=True, text=True, check=False, timeout=60)
    assert "published 2 records" in done.stdout
    assert "--name" in run("publish", "t", "/dev/null", "--resume", ok=False).stderr
    (folder / "a.jsonl").mkdir()
    assert "a.jsonl is a folder" in run("publish", "t", "a.jsonl", ok=False).stderr


def test_a_damaged_file_is_said_in_words(run: Run, folder: Path) -> None:
    packed = gzip.compress(b'{"a": 1}\n' * 10_000)
    (folder / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "b.zip").write_bytes(b"no zip")
    assert "cannot be read to its end" in run("publish", "t", "a.jsonl.gz", "--create", ok=False).stderr
    assert "b.zip is not a zip file" in run("publish", "t", "b.zip", "--create", ok=False).stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("publish", "order", "a.jsonl"), "did you mean orders?"),
        (("publish", "orders", "nowhere.csv"), "nowhere.csv does not exist"),
        (("publish", "orders", "a.jsonl", "--app", "shop:nothing"), "no attribute 'nothing'"),
        (("publish", "invoice", "a.jsonl", "--create", "--app", "shop:app"), "did you mean invoices?"),
        (("publish", "orders", "b.csv", "--key", "custmer"), "did you mean customer?"),
        (("publish", "orders", "b.csv", "--column", "x"), "is not NAME=TYPE"),
        (("publish", "orders", "notes.txt"), "--format"),
        (("publish", "orders", "-", "--resume"), "--name"),
        (("publish", "orders", "a.jsonl", "--kafka", "x"), "is not KEY=VALUE"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_remedy(run: Run, folder: Path, args: tuple[str, ...], said: str) -> None:
    (folder / "a.jsonl").write_text('{"customer": "b", "cents": 1}\n')
    (folder / "b.csv").write_text("customer,cents\nb,1\n")
    (folder / "notes.txt").write_text("hello\n")
    run("publish", "orders", "a.jsonl", "--create")
    failed = run(*args, ok=False)
    assert failed.exit_code == 2
    assert said in failed.stderr
    assert "→" in failed.stderr
    assert "Traceback" not in failed.output


@pytest.mark.parametrize("part", ["commands", "journal", "state"])
def test_topics_internal_to_an_app_take_nothing(run: Run, folder: Path, part: str) -> None:
    for name in ("orders", "shop.commands", "shop.journal", "shop.state"):
        run("topics", "--create", name)
    failed = run("publish", f"shop.{part}", "-", "--key", "a", ok=False, stdin="{}")
    assert failed.exit_code == 2
    assert f"topic 'shop.{part}' is internal to an app" in failed.stderr
    assert "→ publish to a topic that the app reads" in failed.stderr
    assert run("consume", f"shop.{part}").stdout == ""
    for command_name in ("publish", "consume"):
        hint = run(command_name, "zzz", *(["-"] if command_name == "publish" else []), ok=False, stdin="{}").stderr
        assert "there are: orders" in hint
        assert "shop." not in hint


def test_a_topic_of_ones_own_may_be_named_like_an_internal_one(run: Run, folder: Path) -> None:
    assert "published 1 record to bank.commands" in run("publish", "bank.commands", "-", "--create", stdin="{}").stdout
    assert "bank.commands" in run("topics").stdout


def test_a_finished_run_has_nothing_to_resume_and_a_plain_one_starts_anew(run: Run, folder: Path) -> None:
    (folder / "a.jsonl").write_text("1\n2\n3\n")
    run("publish", "t", "a.jsonl", "--create", "--partitions", "1")
    assert "published 0 records" in run("publish", "t", "a.jsonl", "--resume").stdout
    assert "published 3 records" in run("publish", "t", "a.jsonl").stdout
    assert values(run, "t") == [1, 2, 3, 1, 2, 3]


def test_killed_at_any_moment_and_resumed_every_row_is_published_once(run: Run, folder: Path) -> None:
    total = 60_000
    (folder / "a.jsonl").write_text("".join(f"{number}\n" for number in range(total)))
    run("publish", "t", "a.jsonl", "--create", "--partitions", "3", "--name", "other", stdin="")
    args = ["publish", "t2", "a.jsonl", "--create", "--partitions", "3", "--resume"]
    kills = 0
    for batches in range(1, 6):
        process = subprocess.Popen(command(args), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        grown = folder / ".odradek" / "log"
        size = sum(path.stat().st_size for path in grown.rglob("*") if path.is_file())
        while process.poll() is None and _size(grown) < size + batches * 40_000:
            continue
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills > 0
    run(*args)
    assert sorted(values(run, "t2")) == list(range(total))


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


@pytest.mark.parametrize(
    "cell",
    ["12345678901234567890", "9223372036854775808", "007", "12E5", "1e5", "1.50", "0.12345678901234567", "+1", "-0", ".5", "1.",
     "12345678901234567.5", "1_000", "٣", "NaN", "0x1F"],
)  # fmt: skip
@pytest.mark.parametrize("beside", ["1", "2.5"])
def test_a_cell_that_a_number_does_not_reproduce_stays_text(run: Run, folder: Path, cell: str, beside: str) -> None:
    (folder / "a.csv").write_text(f"id,n\n{cell},1\n{beside},2\n")
    run("publish", "t", "a.csv", "--create", "--partitions", "1")
    assert [value["id"] for value in values(run, "t")] == [cell, beside]


@pytest.mark.parametrize("cell", ["0", "-7", "9007199254740993", "9223372036854775807", "0.1", "-2.75", "0.30000000000000004"])
def test_a_cell_that_a_number_reproduces_is_one(run: Run, folder: Path, cell: str) -> None:
    (folder / "a.csv").write_text(f"id,n\n{cell},1.5\n12,2\n")
    run("publish", "t", "a.csv", "--create", "--partitions", "1")
    (first, second) = (value["id"] for value in values(run, "t"))
    assert (str(first), isinstance(first, (int, float)), second) == (cell, True, 12)


def test_a_number_that_the_user_declares_may_be_written_in_any_way(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("price\n1.50\n12E5\n")
    run("publish", "t", "a.csv", "--create", "--partitions", "1", "--column", "price=float")
    assert values(run, "t") == [{"price": 1.5}, {"price": 1_200_000.0}]


def test_a_later_cell_that_would_be_changed_is_refused_with_both_ways_out(run: Run, folder: Path) -> None:
    (folder / "a.csv").write_text("price\n" + "1.5\n" * 1000 + "1.50\n")
    said = run("publish", "t", "a.csv", "--create", ok=False).stderr
    assert "line 1,002, field price" in said
    assert "--column price=str" in said
    assert "--column price=float" in said


def test_it_says_where_it_published(run: Run, folder: Path) -> None:
    said = run("publish", "t", "-", "--create", "--partitions", "3", stdin="1\n2\n").stdout
    assert "published 2 records to t (3 partitions, the embedded log in .odradek)" in said
    with Serving("dev", "shop:app") as serving:
        serving.worker()
        said = run("publish", "t", "-", stdin="1\n").stdout
        assert "published 1 record to t (3 partitions, the embedded log in .odradek)" in said
