# SPDX-License-Identifier: Apache-2.0
"""Putting our routes before MONAI Label's."""

from __future__ import annotations

from fastapi import FastAPI

from monailabel_app.framework import settings
from monailabel_app.routes import datastore, infer, records, train
from monailabel_app.routes.guard import PathGuard

_INSTALLED = "medreasoner_routes_installed"


def install_routes(server: FastAPI) -> None:
    """Add the routes once; MONAI Label's ``/reload`` builds the app anew on the same server.

    The app is built while the server starts, when routes can be added but middleware cannot.
    Routes are tried in order, so ours are moved to the front.
    """
    if getattr(server.state, _INSTALLED, False):
        return
    before = len(server.router.routes)
    for router in (infer.router, datastore.router, records.router, train.router):
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    routes = server.router.routes
    ours = routes[before:]
    del routes[before:]
    routes[:0] = [PathGuard(), *ours]
    setattr(server.state, _INSTALLED, True)
    server.openapi_schema = None
