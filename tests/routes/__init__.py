"""Every route of a running worker under schemathesis: requests that fit an OpenAPI document, and that do not (make fuzz-http)."""
