"""The apps of a worker's public and private ports: which path is served by what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Mount

from odradek_runtime.http.ingress import wire
from odradek_runtime.http.ingress.credential import PeersOnly
from odradek_runtime.http.ingress.table import Endpoint, Table, route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import Route

    from odradek_runtime.http.ingress.awakeables import AwakeableRoutes
    from odradek_runtime.http.ingress.credential import Credential
    from odradek_runtime.http.ingress.private import PrivateRoutes
    from odradek_runtime.http.ingress.routes import Routes


def public_app(routes: Routes, awakeables: AwakeableRoutes) -> Table:
    """What clients reach."""
    own = [
        route("GET", "/health", routes.health),
        route("GET", "/invocations/{id}/attach", routes.invocation),
        route("GET", "/invocations/{id}/output", routes.invocation),
        route("GET", "/workflows/{rest:path}", routes.workflow),
        route("POST", "/awakeables/{id}/resolve", awakeables.resolve),
        route("POST", "/awakeables/{id}/reject", awakeables.reject),
    ]
    # No pattern of Starlette's stands for every path: a key may hold a line feed.
    return Table([Mount("/odradek", app=Table(own))], rest=Endpoint(routes.handler))


def private_app(routes: PrivateRoutes, others: Sequence[Route], credential: Credential) -> PeersOnly:
    """What the app's other workers reach; `others`: what is not the ingress's."""
    return PeersOnly(Table([route("POST", wire.ASK_PATH, routes.ask), *others]), credential)
