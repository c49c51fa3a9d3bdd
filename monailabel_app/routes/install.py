# SPDX-License-Identifier: Apache-2.0
"""Putting our routes before MONAI Label's."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute

from monailabel_app.framework import get_current_user, settings
from monailabel_app.ohif import STATIC_FOLDER, STATIC_PATH
from monailabel_app.routes import (
    datastore,
    history,
    infer,
    login,
    ohif,
    proxy,
    records,
    streams,
    train,
)
from monailabel_app.routes.guard import (
    AdminGuard,
    ArchiveGuard,
    DocsGuard,
    ExposureGuard,
    PathGuard,
)
from monailabel_app.routes.readers import current_user
from monailabel_app.security.settings import SecuritySettings, security_settings

logger = logging.getLogger(__name__)

_INSTALLED = "medreasoner_routes_installed"
_ROUTERS = (
    infer.router,
    datastore.router,
    records.router,
    history.router,
    streams.router,
    train.router,
    proxy.router,
    ohif.router,
    login.router,
)


def install_routes(server: FastAPI) -> None:
    """Add the routes once; MONAI Label's ``/reload`` builds the app anew on the same server.

    The app is built while the server starts, when routes can be added but middleware cannot.
    Routes are tried in order, so ours are moved to the front.
    """
    if getattr(server.state, _INSTALLED, False):
        return
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        server.dependency_overrides[get_current_user] = current_user
    before = len(server.router.routes)
    for router in _ROUTERS:
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    server.mount(STATIC_PATH, StaticFiles(directory=STATIC_FOLDER))
    routes = server.router.routes
    ours = routes[before:]
    del routes[before:]
    routes[:0] = [*_guards(server), *ours]
    setattr(server.state, _INSTALLED, True)
    server.openapi_schema = None


def _guards(server: FastAPI) -> list[BaseRoute]:
    secured: SecuritySettings | None = getattr(server.state, "security", None)
    access = secured or security_settings()
    guards: list[BaseRoute] = [PathGuard(), ArchiveGuard(), DocsGuard()]
    if not access.admin_routes:
        guards.append(AdminGuard())
    if secured is None:
        logger.warning(
            "MONAI Label's own server runs without login, limits and security headers; start it "
            "with: --uvicorn_app monailabel_app.asgi:app"
        )
    asks = settings.MONAI_LABEL_AUTH_ENABLE or (secured is not None and secured.asks_for_login)
    if not asks and not access.allow_unauthenticated:
        guards.append(ExposureGuard())
    return guards
