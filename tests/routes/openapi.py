"""OpenAPI documents of the public and the admin port, for the app beside this file."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

LINE = {
    "type": "object",
    "required": ["sku", "count"],
    "properties": {"sku": {"type": "string"}, "count": {"type": "integer"}, "price": {"type": ["number", "null"]}},
}
ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "string"},
        "lines": {"type": "array", "items": LINE},
        "at": {"type": ["string", "null"], "format": "date-time"},
    },
}
HANDLERS: dict[str, Document | None] = {
    "/routes/place": ORDER,
    "/routes/anything": {"type": "object"},
    "/routes/raw": {"type": "string", "format": "binary"},
    "/routes/nothing": None,
    "/customer/{key}/pay": {"type": "integer"},
    "/customer/{key}/total": None,
}
"""`fails` is asked elsewhere: it answers with whatever code it is given."""
DELAY = {"type": "string", "pattern": "^[0-9]{1,4}(ms|s|m|h|d)$"}
ID = {"type": "string", "pattern": "^inv_[a-z2-7]{26}$"}
TOPIC = {"type": "string", "enum": ["orders", "routes.commands", "routes.journal", "routes.state", "made"]}
BASE64 = {"type": ["string", "null"], "format": "byte"}
RECORD = {
    "type": "array",
    "minItems": 4,
    "maxItems": 6,
    "prefixItems": [
        {"type": "string", "enum": ["orders", "made"]},
        {"type": ["integer", "null"]},
        BASE64,
        BASE64,
        {"type": ["array", "null"], "items": {"type": "array", "prefixItems": [{"type": "string"}, BASE64], "minItems": 2}},
        {"type": "integer"},
    ],
}
COUNT = {"type": "integer", "minimum": 0}


def public() -> Document:
    """What clients reach."""
    paths: Document = {"/odradek/health": {"get": _operation()}}
    for action in ("attach", "output"):
        paths["/odradek/invocations/{id}/" + action] = {"get": _operation([_in("path", "id", ID)])}
    for path, body in HANDLERS.items():
        key = [_in("path", "key", {"type": "string", "minLength": 1})] if "{key}" in path else []
        once = [*key, _in("header", "idempotency-key", {"type": "string"})]
        kind = "application/octet-stream" if path.endswith("/raw") else "application/json"
        paths[path] = {"post": _operation(once, body, kind)}
        # Without a key: who attaches to what starts in a year waits for a year.
        paths[path + "/send"] = {"post": _operation([*key, _in("query", "delay", DELAY)], body, kind)}
        for action in ("attach", "output"):
            paths[f"{path}/{action}"] = {"get": _operation(once)}
    return _document(paths)


def admin() -> Document:
    """What operators and probes reach. The topics' routes want the token."""
    topic, partition = _in("path", "topic", TOPIC), _in("query", "partition", COUNT)
    name, position = _in("query", "name", {"type": "string"}), _in("query", "position", COUNT)
    made = {
        "type": "object",
        "required": ["name", "partitions", "config"],
        "properties": {
            "name": {"type": "string"},
            "partitions": {"type": "integer", "minimum": 1, "maximum": 16},
            "config": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    pages = [topic, partition, _in("query", "offset", COUNT), _in("query", "stop", COUNT), _in("query", "max", COUNT)]
    records = {"type": "array", "items": RECORD}
    paths: Document = {path: {"get": _operation()} for path in ("/health", "/ready", "/metrics")}
    paths |= {
        "/topics": {"get": _operation(), "post": _operation([], made)},
        "/topics/{topic}": {"get": _operation([topic])},
        "/topics/{topic}/offsets": {"get": _operation([topic, partition, _in("query", "at_ms", COUNT)])},
        "/topics/{topic}/committed": {"get": _operation([topic, _in("query", "app", {"type": "string"})])},
        "/topics/{topic}/records": {"get": _operation(pages)},
        "/records": {"post": _operation([name, position], records)},
        "/publishers": {"get": _operation([name]), "delete": _operation([name])},
    }
    return _document(paths)


def _in(where: str, name: str, schema: Document) -> Document:
    return {"in": where, "name": name, "schema": schema, "required": where == "path"}


def _operation(parameters: list[Document] | None = None, body: Document | None = None, kind: str = "application/json") -> Document:
    operation: Document = {"parameters": parameters or [], "responses": {"default": {"description": "any"}}}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": body}}}
    return operation


def _document(paths: Document) -> Document:
    return {"openapi": "3.1.0", "info": {"title": "a worker", "version": "1"}, "paths": paths}
