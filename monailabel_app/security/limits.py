# SPDX-License-Identifier: Apache-2.0
"""How much a client may send: Starlette's body limit, and rates counted by ``limits``.

The counter is asked in a middleware, before a body is read; ``slowapi``, which is built on
``limits``, counts in the endpoints that its decorators mark.
"""

from __future__ import annotations

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.security.accounts import LoggedIn
from monailabel_app.security.addresses import address_of
from monailabel_app.security.authentication import PUBLIC_PATHS

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOGIN_BODY_BYTES = 16 << 10
_MINUTE_S = "60"
_TOO_LARGE = (
    "The request's body is larger than is taken here; the administrator sets "
    "MEDREASONER_MAX_UPLOAD_MB and MEDREASONER_MAX_BODY_KB."
)


class BodyLimits:
    """A small body for all requests, a large one for multipart uploads (images, labels).

    What anybody may send before they have logged in is no more than a form with name and token.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int, other_bytes: int) -> None:
        self._upload = RequestBodyLimitMiddleware(app, upload_bytes)
        self._other = RequestBodyLimitMiddleware(app, other_bytes)
        self._login = RequestBodyLimitMiddleware(app, min(LOGIN_BODY_BYTES, other_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body while it is read; too much is answered 413, with a sentence."""
        answered = False

        async def told(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and _is_bare_refusal(message):
                answered = True
                await JSONResponse({"detail": _TOO_LARGE}, 413)(scope, receive, send)
            elif not answered:
                await send(message)

        await self._limit_of(scope)(scope, receive, told)

    def _limit_of(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._other
        if scope["path"] in PUBLIC_PATHS:
            return self._login
        kind = Request(scope).headers.get("content-type", "").lower()
        return self._upload if kind.startswith("multipart/") else self._other


def _is_bare_refusal(message: Message) -> bool:
    """Whether this is Starlette's own 413, which viewers could not show."""
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] == 413 and kind.startswith("text/plain")


class RateLimits:
    """Counts what changes something, per reader, or per address where nobody has to log in.

    Reading is not counted: a viewer fetches a series slice by slice. Logins are counted where
    tokens are compared, see :mod:`monailabel_app.security.guesses`. It stands behind the login, so
    that who is not let in uses up nobody's share.
    """

    def __init__(
        self, app: ASGIApp, requests_per_minute: int, *, trusts_proxies: bool = False
    ) -> None:
        self._app = app
        self._requests = RateLimitItemPerMinute(requests_per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._trusts_proxies = trusts_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 once a client has asked too often."""
        if scope["type"] == "http" and not self._admits(scope):
            answer = JSONResponse(
                {"detail": "Too many requests; try again in a minute."},
                status_code=429,
                headers={"Retry-After": _MINUTE_S},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        if scope["method"] in SAFE_METHODS or scope["path"] in PUBLIC_PATHS:
            return True
        user = scope.get("user")
        if isinstance(user, LoggedIn):
            return self._limiter.hit(self._requests, "reader", user.display_name)
        return self._limiter.hit(self._requests, "address", address_of(scope, self._trusts_proxies))
