"""Every decoder of strangers' bytes, on what once went wrong and on a thousand spoilt inputs; `make soak` gives each a minute."""

import time

import pytest

from tests.fuzz.__main__ import fuzzed
from tests.fuzz.spoiling import spoilt, why_wrong
from tests.fuzz.targets import CORPUS, TARGETS, Target, corpus


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_read(name: str) -> None:
    for raw in TARGETS[name].sound:
        TARGETS[name].decode(raw)


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_went_wrong_gives_the_one_error(name: str) -> None:
    assert {raw.hex(): why for raw in corpus(name) if (why := why_wrong(TARGETS[name], raw))} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_spoilt_inputs_give_the_one_error(name: str) -> None:
    target = TARGETS[name]
    assert {raw.hex(): why for raw in spoilt(target, 0, 1_000) if (why := why_wrong(target, raw))} == {}


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS)
def test_a_minute_of_spoilt_inputs(name: str) -> None:
    seed = time.time_ns()
    _, found = fuzzed(TARGETS[name], seed, 60.0)
    assert {raw.hex(): why for raw, why in found.items()} == {}, f"from seed {seed}: keep them in corpus/{name}.txt"


def test_every_corpus_is_of_a_target() -> None:
    assert {path.stem for path in CORPUS.glob("*.txt")} <= TARGETS.keys()


def test_an_error_that_was_not_promised_and_a_hang_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_ever(raw: bytes) -> None:
        while raw:
            pass

    monkeypatch.setattr("tests.fuzz.spoiling.HANGS_S", 0.05)
    assert why_wrong(Target(lambda raw: raw[9], (ValueError,), [b""]), b"") == "IndexError: index out of range"
    assert why_wrong(Target(for_ever, (ValueError,), [b""]), b"x").startswith("Hangs")
