"""Dead letters: a record that could not be processed, as it was, with what went wrong in its headers.

Written in the same transaction that moves the offset past the record, to `<app>.dead-letters` unless the subscription names
another topic. Header names start with `odradek-`; the record's own headers follow unchanged.
"""

from __future__ import annotations

import json

from odradek import App
from odradek._port import Origin
from odradek_runtime.log.port import Output

from .request import Failure


def letters(app: App) -> list[str]:
    """The topics that take the app's dead letters."""
    named = {subscription.dead_letter for subscription in app.subscriptions() if subscription.dead_letter is not None}
    return [f"{app.name}.dead-letters", *sorted(named)]


def dead_letter(
    topic: str,
    app: str,
    target: str,
    origin: Origin,
    value: bytes | None,
    failure: Failure,
    attempts: int = 0,
    without: int | None = None,
) -> Output:
    """The record for the dead-letter topic.

    `app`: whose handler `target` is; `attempts` counts the runs that failed, `without`: the size of a value left out.

    >>> origin = Origin("orders", 2, 17, 0, b"k", ())
    >>> failure = Failure(400, "$: bad", {"field": "$"})
    >>> headers = dict(dead_letter("shop.dead-letters", "shop", "customer/ordered", origin, b"{", failure).headers)
    >>> headers["odradek-offset"], headers["odradek-field"]
    (b'17', b'$')
    """
    told = {
        "odradek-error": failure.message,
        "odradek-code": str(failure.code),
        "odradek-app": app,
        "odradek-handler": target,
        "odradek-topic": origin.topic,
        "odradek-partition": str(origin.partition),
        "odradek-offset": str(origin.offset),
        "odradek-timestamp-ms": str(origin.timestamp_ms),
        "odradek-attempts": str(attempts),
    }
    if origin.replay:
        told["odradek-replay"] = origin.replay_id
    if "field" in failure.metadata:
        told["odradek-field"] = failure.metadata["field"]
    rest = {name: text for name, text in failure.metadata.items() if name != "field"}
    if rest:
        told["odradek-metadata"] = json.dumps(rest)
    headers = [(name, text.encode()[:4096]) for name, text in told.items()]
    if without is not None:
        headers.append(left_out("value", without))
    return Output(topic, None, origin.key, value, [*headers, *origin.headers], 0)


def left_out(what: str, size: int) -> tuple[str, bytes]:
    """The header of a dead letter that says how large its value (headers, key) was, which it does not have."""
    return f"odradek-{what}-bytes", b"%d" % size
