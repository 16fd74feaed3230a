"""The app of the admin port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from odradek_runtime.admin.siblings import METRICS_PATH, READY_PATH
from odradek_runtime.ingress.table import Endpoint, Table

if TYPE_CHECKING:
    from odradek_runtime.admin.routes import AdminRoutes
    from odradek_runtime.admin.topics import TopicRoutes


def admin_app(routes: AdminRoutes, topics: TopicRoutes) -> Table:
    """Probes and metrics for everybody who reaches the port, topics behind the token."""
    table = [
        Route("/health", Endpoint(routes.health), methods=["GET"]),
        Route("/ready", Endpoint(routes.ready), methods=["GET"]),
        Route("/metrics", Endpoint(routes.metrics), methods=["GET"]),
        *topics.table(),
    ]
    return Table(table)


def sibling_routes(routes: AdminRoutes) -> list[Route]:
    """What this worker says of itself to the others of its node, at its private port."""
    return [
        Route(METRICS_PATH, Endpoint(routes.metrics_alone), methods=["GET"]),
        Route(READY_PATH, Endpoint(routes.ready_alone), methods=["GET"]),
    ]
