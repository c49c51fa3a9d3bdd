# SPDX-License-Identifier: Apache-2.0
"""Login for a backend of Starlette's AuthenticationMiddleware.

Accepted are what the clients can send: a bearer token (3D Slicer after its login dialog, scripts),
HTTP Basic with the token as password (DICOMweb tools), and a cookie (the viewer in the browser).
"""

from __future__ import annotations

import base64
import math
from typing import cast
from urllib.parse import quote

from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
)
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

from monailabel_app.security.accounts import Accounts, LoggedIn
from monailabel_app.security.addresses import address_of
from monailabel_app.security.guesses import Logins, TooManyGuessesError

SESSION_COOKIE = "medreasoner_session"
LOGIN_PATH = "/medreasoner/login"
HEALTH_PATH = "/healthz"
PUBLIC_PATHS = frozenset({LOGIN_PATH, "/auth/", "/auth/token", HEALTH_PATH})
_NOT_LOGGED_IN = "Log in first: the site's token is missing, wrong or expired."


class GuessedTooOftenError(AuthenticationError):
    """As :class:`TooManyGuessesError`, for Starlette's middleware."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many failed logins; wait before you try again.")
        self.wait_s = wait_s


class LoginRequired(AuthenticationBackend):
    """Lets nobody pass without a token or a session, except to the login and ``/healthz``.

    Args:
        trusts_proxies: whether the site named proxies whose word on the client's address counts.
    """

    def __init__(self, readers: Accounts, logins: Logins, *, trusts_proxies: bool = False) -> None:
        self._readers = readers
        self._logins = logins
        self._trusts_proxies = trusts_proxies

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Who is calling.

        Raises:
            AuthenticationError: if the request needs a login and carries none.
        """
        if conn.scope["path"] in PUBLIC_PATHS:
            # Nothing is told about what a request to the login carries besides its form.
            return None
        try:
            reader = self._reader_of(conn)
        except TooManyGuessesError as error:
            raise GuessedTooOftenError(error.wait_s) from None
        if reader is None:
            raise AuthenticationError(_NOT_LOGGED_IN)
        # It has what Starlette reads of a user.
        return AuthCredentials(["reader"]), cast("BaseUser", reader)

    def _reader_of(self, conn: HTTPConnection) -> LoggedIn | None:
        address = address_of(conn.scope, self._trusts_proxies)
        scheme, _, value = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, token = _basic(value)
            return self._logins.log_in(address, token, name)
        if scheme.lower() == "bearer":
            return self._of_session(value) or self._of_guess(address, value)
        session = conn.cookies.get(SESSION_COOKIE)
        if session is None:
            return None
        found = self._of_session(session)
        if found is None and not self._readers.is_signed(session):
            self._logins.refuse_forged(address)
        return found

    def _of_session(self, text: str) -> LoggedIn | None:
        return self._readers.by_session(text)

    def _of_guess(self, address: str, token: str) -> LoggedIn | None:
        # A session that has ended is no guess, however often a viewer sends it.
        return None if self._readers.is_signed(token) else self._logins.log_in(address, token)


def sessions_of(conn: HTTPConnection) -> tuple[str, ...]:
    """The texts of a request that may be sessions."""
    scheme, _, value = conn.headers.get("authorization", "").partition(" ")
    bearer = value if scheme.lower() == "bearer" else None
    return tuple(text for text in (bearer, conn.cookies.get(SESSION_COOKIE)) if text)


def refuse(conn: HTTPConnection, error: AuthenticationError) -> Response:
    """A page is sent to the login, everything else gets a sentence with 401, or 429."""
    is_page = "text/html" in conn.headers.get("accept", "") and conn.scope["method"] == "GET"
    if is_page:
        query = conn.scope["query_string"].decode("latin-1")
        wanted = conn.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"{LOGIN_PATH}?next={quote(wanted, safe='')}", status_code=303)
    if isinstance(error, GuessedTooOftenError):
        return JSONResponse({"detail": str(error)}, 429, headers=retry_after(error.wait_s))
    # Not Basic, for which a browser would open a dialog of its own over the viewer.
    return JSONResponse(
        {"detail": str(error)}, status_code=401, headers={"WWW-Authenticate": "Bearer"}
    )


def retry_after(wait_s: float) -> dict[str, str]:
    """The header that tells how long to wait."""
    return {"Retry-After": str(math.ceil(wait_s))}


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, token = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        return "", ""
    return name, token
