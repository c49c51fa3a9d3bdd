# SPDX-License-Identifier: Apache-2.0
"""How much a client may send: Starlette's body limit, and rates counted by ``limits``.

``slowapi``, which builds on ``limits``, limits the endpoints that its decorators mark; most of the
routes here are MONAI Label's, so the counter is asked in a middleware instead.
"""

from __future__ import annotations

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monailabel_app.security.authentication import LOGIN_PATH

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN_PATHS = frozenset({LOGIN_PATH, "/auth/token"})
_MINUTE_S = "60"


class BodyLimits:
    """A small body for all requests, a large one for multipart uploads (images, labels)."""

    def __init__(self, app: ASGIApp, upload_bytes: int, other_bytes: int) -> None:
        self._upload = RequestBodyLimitMiddleware(app, upload_bytes)
        self._other = RequestBodyLimitMiddleware(app, other_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body while it is read; too much is answered 413."""
        is_upload = scope["type"] == "http" and Request(scope).headers.get(
            "content-type", ""
        ).lower().startswith("multipart/")
        await (self._upload if is_upload else self._other)(scope, receive, send)


class RateLimits:
    """Counts what changes something, and attempts to log in, per client address.

    Reading is not counted: a viewer fetches a series slice by slice.
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int, logins_per_minute: int) -> None:
        self._app = app
        self._requests = RateLimitItemPerMinute(requests_per_minute)
        self._logins = RateLimitItemPerMinute(logins_per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 once a client has asked too often."""
        if scope["type"] == "http" and not self._admits(scope):
            answer = JSONResponse(
                {"detail": "Too many requests from this address; try again in a minute."},
                status_code=429,
                headers={"Retry-After": _MINUTE_S},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        if scope["method"] in SAFE_METHODS:
            return True
        address = scope["client"][0] if scope.get("client") else "unknown"
        if scope["path"] in _LOGIN_PATHS and not self._limiter.hit(self._logins, "login", address):
            return False
        return self._limiter.hit(self._requests, "request", address)
