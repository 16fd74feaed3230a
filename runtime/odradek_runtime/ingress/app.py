"""The Starlette apps of a worker's public and private ports: routes and error forms, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from odradek_runtime.ingress import wire
from odradek_runtime.ingress.credential import PeersOnly
from odradek_runtime.ingress.errors import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from odradek_runtime.ingress.credential import Credential
    from odradek_runtime.ingress.private import PrivateRoutes
    from odradek_runtime.ingress.routes import Routes

ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def public_app(routes: Routes) -> Starlette:
    """What clients reach."""
    own = [
        Route("/health", routes.health, methods=["GET"]),
        Route("/invocations/{id}/attach", routes.invocation, methods=["GET"]),
        Route("/invocations/{id}/output", routes.invocation, methods=["GET"]),
    ]
    table = [Mount("/odradek", routes=own), Route("/{path:path}", routes.handler, methods=ANY_METHOD)]
    return Starlette(routes=table, exception_handlers=HANDLERS)


def private_app(routes: PrivateRoutes, others: Sequence[Route], credential: Credential) -> PeersOnly:
    """What the app's other workers reach; `others`: what is not the ingress's."""
    table = [Route(wire.ASK_PATH, routes.ask, methods=["POST"]), *others]
    return PeersOnly(Starlette(routes=table, exception_handlers=HANDLERS), credential)
