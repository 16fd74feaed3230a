"""odradek: durable execution for Python, on Kafka. Plain async handlers that run to the end, exactly once.

Everything public is here; see `App` for the start. How values travel is in `_serde`, what the engine is asked in
`_port`.
"""

from odradek._app import App
from odradek._client import Client
from odradek._context import Context, ObjectContext, SharedContext, WorkflowContext
from odradek._current import current, idempotency_key
from odradek._errors import RetryableError, TerminalError
from odradek._future import Awakeable, Call, Future
from odradek._promise import Promise
from odradek._retry import RetryPolicy
from odradek._service import Object, Service, Workflow
from odradek._state import Name, State
from odradek._step import step
from odradek._topic import Record, Topic

__all__ = [
    "App",
    "Awakeable",
    "Call",
    "Client",
    "Context",
    "Future",
    "Name",
    "Object",
    "ObjectContext",
    "Promise",
    "Record",
    "RetryPolicy",
    "RetryableError",
    "Service",
    "SharedContext",
    "State",
    "TerminalError",
    "Topic",
    "Workflow",
    "WorkflowContext",
    "current",
    "idempotency_key",
    "step",
]
