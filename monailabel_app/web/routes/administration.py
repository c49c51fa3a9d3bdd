# SPDX-License-Identifier: Apache-2.0
"""``/logs`` and ``/reload``, which the site opens by ``MEDREASONER_ADMIN_ROUTES=1``.

MONAI Label's other routes for administrators (``/model``, ``/scoring``, ``/infer/wsi``) have
nothing to do here: the app has no model file to exchange, no scoring method and no slide model.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from monailabel_app.errors import NotFoundError
from monailabel_app.framework import app_instance, apps, settings
from monailabel_app.web.routes.callers import MayAdminister
from monailabel_app.web.routes.typed_errors import TypedErrorRoute

MAX_LINES = 10_000

router = APIRouter(tags=["Others"], route_class=TypedErrorRoute)


@router.get("/logs/", summary="Get Logs")
def get_log(
    caller: MayAdminister, lines: Annotated[int, Query(ge=1, le=MAX_LINES)] = 300
) -> PlainTextResponse:
    """The last lines of the server's log."""
    path = Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"
    if not path.is_file():
        raise NotFoundError("The server writes no log file.")
    with path.open(encoding="utf-8", errors="replace") as log:
        return PlainTextResponse("".join(deque(log, lines)))


@router.post("/reload", include_in_schema=False)
def reload(caller: MayAdminister) -> dict[str, Any]:
    """Build the app anew, with models and studies as they are now; if it fails, keep the old."""
    before = dict(apps)
    apps.clear()
    try:
        app_instance()
    finally:
        for key, app in before.items():
            apps.setdefault(key, app)
    return {}
