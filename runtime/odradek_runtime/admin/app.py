"""The Starlette app of the admin port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route

from odradek_runtime.ingress.errors import HANDLERS

if TYPE_CHECKING:
    from odradek_runtime.admin.routes import AdminRoutes
    from odradek_runtime.admin.topics import TopicRoutes


def admin_app(routes: AdminRoutes, topics: TopicRoutes) -> Starlette:
    """Probes and metrics for everybody who reaches the port, topics behind the token."""
    table = [
        Route("/health", routes.health, methods=["GET"]),
        Route("/ready", routes.ready, methods=["GET"]),
        Route("/metrics", routes.metrics, methods=["GET"]),
        *topics.table(),
    ]
    return Starlette(routes=table, exception_handlers=HANDLERS)
