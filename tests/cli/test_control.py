"""What is done with invocations from a shell: by id and by filter, with a preview, and what cannot be done."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.test_ps import call, desk, listed
from tests.cli.workers import until

NOBODY = "inv_aaaaaaaaaaaaaaaaaaaaaaaaaa"
assert callable(desk)


@pytest.mark.usefixtures("desk")
def test_one_is_killed_by_its_id_with_what_it_waits_for(run: Run) -> None:
    parent = call(run, "ticket/bob/solve")
    until(lambda: len(listed(run)) == 2, "caller and callee")
    said = run("kill", parent, NOBODY, ok=False)
    assert said.stdout == "1 invocation killed\n"
    assert f"{NOBODY}: there is none" in said.stderr
    until(lambda: listed(run) == [], "both have ended")
    assert "409 ticket/solve was killed" in run("show", parent).stdout
    assert "it has ended (failed)" in run("kill", parent, ok=False).stderr


@pytest.mark.usefixtures("desk")
def test_those_that_filters_find_are_shown_before(run: Run) -> None:
    for key in ("a", "b", "c"):
        call(run, f"ticket/{key}/remind")
    call(run, "ticket/d/close")
    until(lambda: len(listed(run)) == 4, "all four")

    said = run("kill", "--handler", "remind", ok=False, stdin="n\n")
    assert said.exit_code == 2
    assert said.stderr.count("ticket/remind") == 3
    assert "nothing was killed" in said.stderr
    assert len(listed(run)) == 4
    assert run("kill", "--handler", "remind", "--key", "a", stdin="y\n").stdout.endswith("1 invocation killed\n")
    assert run("kill", "--handler", "remind", "--yes").stdout == "2 invocations killed\n"
    assert [each["status"] for each in listed(run)] == ["paused"]
    assert "no such invocations" in run("kill", "--handler", "remind", "--yes").stdout


@pytest.mark.usefixtures("desk")
def test_what_is_meant_must_be_said(run: Run) -> None:
    assert "nothing says which are to be killed" in run("kill", ok=False).stderr
    assert "ids and filters" in run("kill", NOBODY, "--key", "a", ok=False).stderr
    assert "is not an invocation id" in run("kill", "bob", ok=False).stderr


@pytest.mark.usefixtures("desk")
def test_what_is_paused_is_resumed(run: Run) -> None:
    sleeper = call(run, "ticket/bob/remind")
    until(lambda: listed(run), "one")
    assert run("pause", sleeper).stdout == "1 invocation paused\n"
    assert [each["pause"] for each in listed(run)] == ["operator"]
    assert "it does not go on (paused)" in run("pause", sleeper, ok=False).stderr
    assert run("resume", "--status", "paused", "--yes").stdout == "1 invocation resumed\n"
    assert [each["status"] for each in listed(run)] == ["suspended"]
    assert "it is not paused (suspended)" in run("resume", sleeper, ok=False).stderr
    stubborn = call(run, "ticket/ann/close")
    until(lambda: listed(run, "--status", "paused"), "one that has given up")
    said = run("resume", stubborn, ok=False)
    assert f"{stubborn}: not resumed yet: paused" in said.stderr


@pytest.mark.usefixtures("desk")
def test_what_waits_is_restarted_and_what_has_ended_is_purged(run: Run) -> None:
    parent = call(run, "ticket/bob/solve")
    until(lambda: len(listed(run)) == 2, "caller and callee")
    assert run("restart", parent, "--entry", "1").stdout == "1 invocation restarted\n"
    until(lambda: len(listed(run)) == 2, "the call, made again")
    assert "counted from 0" in run("restart", parent, "--entry", "9", ok=False).stderr
    told = run("restart", parent).stdout.splitlines()
    assert told[0] == "1 invocation restarted"
    assert told[1].startswith(f"{parent} is now inv_")
    new = told[1].split()[-1]
    until(lambda: [each["id"] for each in listed(run, "--handler", "solve")] == [new], "the new one")
    assert "it has not ended" in run("purge", new, ok=False).stderr
    assert run("purge", "--status", "failed", "--yes").stdout == "1 invocation purged\n"
    assert "there is no invocation" in run("show", parent, ok=False).stderr


@pytest.mark.usefixtures("desk")
def test_what_is_cancelled_takes_its_calls_along(run: Run) -> None:
    parent = call(run, "ticket/bob/solve")
    until(lambda: len(listed(run)) == 2, "caller and callee")
    assert run("cancel", parent).stdout == "1 invocation cancelled\n"
    until(lambda: listed(run) == [], "both have ended")
    assert "409 ticket/solve was cancelled" in run("show", parent).stdout


@pytest.mark.usefixtures("desk")
def test_what_was_paused_in_line_is_not_restarted_from_an_entry(run: Run) -> None:
    call(run, "ticket/bob/remind")
    waiting = call(run, "ticket/bob/remind")
    until(lambda: len(listed(run)) == 2, "the holder of the key, and one behind it")
    assert run("pause", waiting).stdout == "1 invocation paused\n"
    assert "it has not begun, or has ended (paused)" in run("restart", waiting, "--entry", "0", ok=False).stderr
    assert [each["status"] for each in listed(run, "--status", "paused")] == ["paused"]
