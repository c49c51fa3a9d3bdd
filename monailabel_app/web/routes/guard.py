# SPDX-License-Identifier: Apache-2.0
"""Refusing callers of other machines while nobody has to log in.

It stands before all routes and matches only what must be refused.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from monailabel_app.security.exposure import is_from_network

_DETAIL = (
    "This server answers its own machine only, because nobody has to log in. The administrator "
    "can set MEDREASONER_TOKEN_FILE and start it by 'medreasoner serve', or set "
    "MEDREASONER_ALLOW_UNAUTHENTICATED=1."
)


class ExposureGuard(BaseRoute):
    """Answers 403 to what came in by an address that other machines reach."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match only what must be refused."""
        if scope["type"] == "http" and is_from_network(scope.get("server")):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        await JSONResponse({"detail": _DETAIL}, status_code=403)(scope, receive, send)
