"""The Starlette app of the admin port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route

from odradek_runtime.admin.siblings import METRICS_PATH, READY_PATH
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


def sibling_routes(routes: AdminRoutes) -> list[Route]:
    """What this worker says of itself to the others of its node, at its private port."""
    return [
        Route(METRICS_PATH, routes.metrics_alone, methods=["GET"]),
        Route(READY_PATH, routes.ready_alone, methods=["GET"]),
    ]
