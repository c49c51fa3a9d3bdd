# SPDX-License-Identifier: Apache-2.0
"""Our routes in place of MONAI Label's, of which none is left.

Each route of theirs that users need has a handler of ours, with a typed door in front and off the
event loop; what is in no router below does not exist.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute

from monailabel_app.framework import get_current_user, settings
from monailabel_app.security.settings import SecuritySettings, security_settings
from monailabel_app.viewers.ohif import STATIC_FOLDER, STATIC_PATH
from monailabel_app.web.routes import (
    activelearning,
    administration,
    app_info,
    audit,
    batch,
    datastore,
    history,
    infer,
    login,
    monitoring,
    ohif,
    priors,
    proxy,
    questions,
    records,
    sessions,
    streams,
    studies,
    train,
)
from monailabel_app.web.routes.callers import current_user
from monailabel_app.web.routes.guard import ExposureGuard

logger = logging.getLogger(__name__)

_INSTALLED = "medreasoner_routes_installed"
_DESCRIPTION = "openapi"
_ROUTERS = (
    app_info.router,
    infer.router,
    activelearning.router,
    datastore.router,
    records.router,
    sessions.router,
    history.router,
    questions.router,
    priors.router,
    streams.router,
    train.router,
    proxy.router,
    studies.router,
    ohif.router,
    login.router,
    monitoring.router,
)
_ADMINISTRATION = (administration.router, audit.router, batch.router)


def install_routes(server: FastAPI) -> None:
    """Exchange the routes once; ``/reload`` builds the app anew on the same server.

    The app is built while the server starts, when routes can be exchanged but middleware cannot.
    """
    if getattr(server.state, _INSTALLED, False):
        return
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        server.dependency_overrides[get_current_user] = current_user
    routes = server.router.routes
    routes[:] = [*_guards(server), *_description(routes)]
    for router in (*_ROUTERS, *(_ADMINISTRATION if _access(server).admin_routes else ())):
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    server.mount(STATIC_PATH, StaticFiles(directory=STATIC_FOLDER))
    setattr(server.state, _INSTALLED, True)
    server.openapi_schema = None


def _description(routes: list[BaseRoute]) -> list[BaseRoute]:
    """FastAPI's own route of the description, ``/openapi.json``."""
    return [route for route in routes if getattr(route, "name", None) == _DESCRIPTION]


def _access(server: FastAPI) -> SecuritySettings:
    return _secured(server) or security_settings()


def _secured(server: FastAPI) -> SecuritySettings | None:
    """The settings of the access control, ``None`` where MONAI Label's own start has none."""
    secured: SecuritySettings | None = getattr(server.state, "security", None)
    return secured


def _guards(server: FastAPI) -> list[BaseRoute]:
    secured = _secured(server)
    if secured is None:
        logger.warning(
            "MONAI Label's own server runs without login, limits and security headers; start it "
            "with: --uvicorn_app monailabel_app.asgi:app"
        )
    asks = settings.MONAI_LABEL_AUTH_ENABLE or (secured is not None and secured.asks_for_login)
    return [] if asks or _access(server).allow_unauthenticated else [ExposureGuard()]
