# SPDX-License-Identifier: Apache-2.0
"""``/healthz`` for whoever watches that the server answers, ``/metrics`` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from monailabel_app.security.authentication import HEALTH_PATH
from monailabel_app.web.routes.callers import MayRead
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

router = APIRouter(tags=["App"], route_class=TypedErrorRoute)


@router.get(HEALTH_PATH, summary="Whether the server answers")
async def healthz(request: Request) -> dict[str, str]:
    """Nothing else is told, as nobody has to log in.

    Raises:
        HTTPException: 503 while the app is being built.
    """
    if getattr(request.app.state, "services", None) is None:
        raise HTTPException(503, "The server is starting.")
    return {"status": "ok"}


@router.get("/metrics", summary="Lines, latencies, outcomes and models, for Prometheus")
def metrics(caller: MayRead, app: App) -> Response:
    """Of the server as a whole: no question, no reader, no study."""
    return Response(generate_latest(app.measures.registry), media_type=CONTENT_TYPE_LATEST)
