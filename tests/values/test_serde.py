"""The one rule of values, for the serde alone: what goes in comes out, or is refused where it goes in."""

from typing import Any

from hypothesis import HealthCheck, given, settings

from odradek import TerminalError
from odradek._serde import Serde, json_serde, topic_serde
from tests.values.grammar import cases
from tests.values.judge import same


@settings(
    max_examples=1500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(cases())
def test_what_goes_in_comes_out_or_is_refused(case: tuple[Any, Any]) -> None:
    hint, value = case
    for make in (json_serde, topic_serde):
        serde = made(make, hint)
        if serde is None:
            continue
        if value is None and make is topic_serde:
            continue  # a tombstone: it has no bytes
        try:
            data = serde.encode(value)
        except TerminalError:
            continue
        back = serde.load(data)
        assert same(value, back), (hint, value, data, back)


def made(make: Any, hint: Any) -> Serde | None:
    try:
        serde: Serde = make(hint)
    except TypeError as error:
        if not str(error).startswith("no serde for"):
            raise
        return None
    return serde
