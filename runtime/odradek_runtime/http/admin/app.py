"""The app of the admin port."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from odradek_runtime.http.admin.siblings import METRICS_PATH, READY_PATH
from odradek_runtime.http.ingress.table import Table, route

if TYPE_CHECKING:
    from starlette.routing import Route

    from odradek_runtime.http.admin.routes import AdminRoutes


def admin_app(routes: AdminRoutes, *behind_token: list[Route]) -> Table:
    """Probes and metrics for everybody who reaches the port, all else behind the token."""
    table = [
        route("GET", "/health", routes.health),
        route("GET", "/ready", routes.ready),
        route("GET", "/metrics", routes.metrics),
        *itertools.chain(*behind_token),
    ]
    return Table(table)


def sibling_routes(routes: AdminRoutes) -> list[Route]:
    """What this worker says of itself to the others of its node, at its private port."""
    return [
        route("GET", METRICS_PATH, routes.metrics_alone),
        route("GET", READY_PATH, routes.ready_alone),
    ]
