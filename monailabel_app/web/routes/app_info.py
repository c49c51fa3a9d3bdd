# SPDX-License-Identifier: Apache-2.0
"""``GET /info/``: what viewers ask first."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from medreasoner_infer import __version__
from monailabel_app.web.routes.callers import MayRead
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

router = APIRouter(tags=["App"], route_class=TypedErrorRoute)


@router.get("/info/", summary="Get App Info")
def get_info(caller: MayRead, app: App) -> dict[str, Any]:
    """Models, options, trainers, how many studies there are, and which software answers."""
    return app.info() | {"software": {"name": "medreasoner", "version": __version__}}
