"""Retry policies and the errors that decide an invocation's end."""

import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek import RetryableError, RetryPolicy, TerminalError
from odradek._errors import ComesLater, comes_later


@given(st.integers(1, 10_000), st.floats(0, 10), st.floats(1, 10), st.floats(0, 100))
def test_delays_grow_up_to_the_longest(attempt: int, initial: float, factor: float, more: float) -> None:
    policy = RetryPolicy(initial=initial, factor=factor, max_delay=initial + more)
    assert initial <= policy.delay_s(attempt) <= policy.delay_s(attempt + 1) <= initial + more
    assert policy.delay_s(1) == initial


def test_defaults_are_fifty_milliseconds_doubling_to_ten_seconds_for_ever() -> None:
    policy = RetryPolicy()
    assert [policy.delay_s(n) for n in (1, 2, 3, 20, 10**9)] == [0.05, 0.1, 0.2, 10.0, 10.0]
    assert not policy.gives_up(10**9, elapsed_s=1e9)


def test_it_gives_up_by_attempts_and_by_time() -> None:
    assert RetryPolicy(max_attempts=1).gives_up(1, 0)
    assert not RetryPolicy(max_attempts=2).gives_up(1, 0)
    policy = RetryPolicy(max_duration=timedelta(seconds=10), initial=1)
    assert not policy.gives_up(1, 8.9)
    assert policy.gives_up(1, 9.1)


def test_only_what_it_names_is_tried_again() -> None:
    policy = RetryPolicy(retry_on=(ConnectionError,))
    assert policy.retries(ConnectionResetError())
    assert policy.retries(RetryableError())
    assert not policy.retries(ValueError())
    assert not RetryPolicy().retries(TerminalError("no"))
    assert not RetryPolicy(retry_on=(BaseException,)).retries(TerminalError("no"))
    assert RetryPolicy().retries(ValueError())
    assert RetryPolicy().retries(KeyboardInterrupt()), "what a handler or a step raises is its failure, not the worker's end"
    assert not RetryPolicy(retry_on=(Exception,)).retries(SystemExit())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be an int, 1 or more"),
        ({"max_attempts": 1.5}, "max_attempts must be an int"),
        ({"factor": 0.5}, "factor must be 1 or more"),
        ({"initial": -1}, "initial must be at least 0"),
        ({"initial": "1"}, "initial must be seconds"),
        ({"initial": True}, "initial must be seconds"),
        ({"max_delay": float("inf")}, "max_delay must be at least 0 and finite"),
        ({"initial": 11}, r"max_delay \(10.0 s\) is shorter than initial \(11.0 s\)"),
        ({"max_duration": timedelta(-1)}, "max_duration must be at least 0"),
        ({"retry_on": ValueError}, "retry_on must be a tuple"),
        ({"retry_on": (3,)}, "retry_on must hold exception classes"),
    ],
)
def test_bad_fields_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"RetryPolicy: {message}"):
        RetryPolicy(**options)


def test_policies_compare_and_show_their_fields() -> None:
    assert RetryPolicy(max_attempts=3) == RetryPolicy(max_attempts=3) != RetryPolicy()
    assert hash(RetryPolicy()) == hash(RetryPolicy())
    assert "max_attempts=3" in repr(RetryPolicy(max_attempts=3))


def test_terminal_errors_carry_code_and_metadata_also_through_pickle() -> None:
    error = pickle.loads(pickle.dumps(TerminalError("gone", code=410, metadata={"a": "b"})))  # noqa: S301  (our own bytes)
    assert (str(error), error.message, error.code, error.metadata) == ("gone", "gone", 410, {"a": "b"})
    with pytest.raises(ValueError, match="400 to 599, not 200"):
        TerminalError("x", code=200)


def test_retryable_errors_say_when() -> None:
    assert RetryableError("x").retry_after_s is None
    assert RetryableError("x", retry_after=timedelta(minutes=1)).retry_after_s == 60
    with pytest.raises(ValueError, match="retry_after must be at least 0"):
        RetryableError(retry_after=-1)


def test_what_comes_later_says_so_and_ends_the_invocation() -> None:
    with pytest.raises(ComesLater, match=r"ctx\.promise comes in a later release of odradek") as raised:
        comes_later("ctx.promise")
    assert isinstance(raised.value, RuntimeError)
    assert isinstance(raised.value, TerminalError)
    assert raised.value.code == 501
