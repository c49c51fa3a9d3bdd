# SPDX-License-Identifier: Apache-2.0
"""Keeping pages of other sites from using a reader's login, or a server without one."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monailabel_app.security.limits import SAFE_METHODS


class CrossSiteGuard:
    """Refuses requests that change something and come from a page of another origin.

    Browsers name the origin in every such request (Fetch standard, "append a request Origin
    header"); programs name none and pass. Unlike CORS this also stops what a page may send without
    being allowed to read the answer, such as a form.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to a page of another site."""
        if scope["type"] == "http" and self._is_foreign(HTTPConnection(scope)):
            answer = JSONResponse(
                {"detail": "Pages of this origin may not use the server; see allowed origins."},
                status_code=403,
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_foreign(self, conn: HTTPConnection) -> bool:
        if conn.scope["method"] in SAFE_METHODS:
            return False
        origins = conn.headers.getlist("origin")
        if not origins:
            return conn.headers.get("sec-fetch-site") == "cross-site"
        host = conn.headers.get("host")
        return any(
            origin not in self._allowed and (not host or _place(origin) != host)
            for origin in origins
        )


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
