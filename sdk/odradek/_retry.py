"""When a failed step or handler is tried again, and after how long."""

from __future__ import annotations

from odradek._errors import Misuse, RetryableError, Seconds, TerminalError, seconds


class RetryPolicy:
    """Retries with exponential backoff: `initial`, times `factor` each time, at most `max_delay`, between attempts.

    Args:
        max_attempts: how often the body may run in all; 1 = no retry, None = for ever.
        initial: delay after the first failure, seconds or timedelta.
        factor: what each delay is multiplied by, at least 1.
        max_delay: the longest delay, seconds or timedelta, at least `initial`.
        max_duration: no attempt starts later than this after the first, seconds or timedelta; None = no limit.
        retry_on: the errors that are tried again, others fail at once; by default all, SystemExit and the like among them.
            A `RetryableError` always is, a `TerminalError` never.

    Raises:
        ValueError: a value is out of its range; the message names it.
        TypeError: a value is of the wrong type.

    >>> policy = RetryPolicy(max_attempts=3, initial=0.1, max_delay=1)
    >>> [policy.delay_s(n) for n in (1, 2, 3, 9)]
    [0.1, 0.2, 0.4, 1.0]
    >>> policy.gives_up(2, elapsed_s=0.3), policy.gives_up(3, elapsed_s=0.5)
    (False, True)
    """

    __slots__ = ("factor", "initial_s", "max_attempts", "max_delay_s", "max_duration_s", "retry_on")

    def __init__(
        self,
        *,
        max_attempts: int | None = None,
        initial: Seconds = 0.05,
        factor: float = 2.0,
        max_delay: Seconds = 10.0,
        max_duration: Seconds | None = None,
        retry_on: tuple[type[BaseException], ...] = (BaseException,),
    ) -> None:
        if max_attempts is not None and (type(max_attempts) is not int or max_attempts < 1):
            raise Misuse(f"RetryPolicy: max_attempts must be an int, 1 or more, or None for no limit, not {max_attempts!r}")
        if not 1 <= factor < float("inf"):
            raise Misuse(f"RetryPolicy: factor must be 1 or more and finite, not {factor!r}")
        self.max_attempts = max_attempts
        self.initial_s = seconds("RetryPolicy: initial", initial)
        self.factor = float(factor)
        self.max_delay_s = seconds("RetryPolicy: max_delay", max_delay)
        self.max_duration_s = None if max_duration is None else seconds("RetryPolicy: max_duration", max_duration)
        if self.max_delay_s < self.initial_s:
            raise Misuse(f"RetryPolicy: max_delay ({self.max_delay_s} s) is shorter than initial ({self.initial_s} s)")
        self.retry_on = _exceptions(retry_on)

    def delay_s(self, attempt: int) -> float:
        """Give the wait in seconds after attempt number `attempt` (the first is 1) has failed."""
        try:
            delay_s = self.initial_s * self.factor ** (attempt - 1)
        except OverflowError:
            return self.max_delay_s
        return min(delay_s, self.max_delay_s)

    def delay_after_s(self, error: BaseException, attempt: int) -> float:
        """As `delay_s`, or what the error asks for, if it is a RetryableError that does."""
        asked_s = getattr(error, "retry_after_s", None) if isinstance(error, RetryableError) else None
        return self.delay_s(attempt) if asked_s is None else asked_s

    def gives_up(self, attempt: int, elapsed_s: float) -> bool:
        """Tell whether attempt number `attempt` was the last, `elapsed_s` after the first began."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return True
        return self.max_duration_s is not None and elapsed_s + self.delay_s(attempt) > self.max_duration_s

    def retries(self, error: BaseException) -> bool:
        """Tell whether `error` is one that this policy tries again."""
        if isinstance(error, TerminalError):
            return False
        return isinstance(error, (RetryableError, *self.retry_on))

    def __repr__(self) -> str:
        return f"RetryPolicy({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RetryPolicy) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.max_attempts, self.initial_s, self.factor, self.max_delay_s))


def _exceptions(retry_on: object) -> tuple[type[BaseException], ...]:
    if not isinstance(retry_on, tuple):
        raise Misuse(f"RetryPolicy: retry_on must be a tuple of exception classes, not {retry_on!r}")
    for kind in retry_on:  # pyright: ignore[reportUnknownVariableType]  (whatever an untyped caller put in)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise Misuse(f"RetryPolicy: retry_on must hold exception classes, not {kind!r}")
    return retry_on  # pyright: ignore[reportUnknownVariableType]  (each element was just checked)
