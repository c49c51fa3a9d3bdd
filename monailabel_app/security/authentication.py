# SPDX-License-Identifier: Apache-2.0
"""Login for a backend of Starlette's AuthenticationMiddleware.

Accepted are what the clients can send: a bearer token (3D Slicer after its login dialog, scripts),
HTTP Basic with the token as password (DICOMweb tools), and a cookie (the viewer in the browser).
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

from monailabel_app.security.readers import Reader, Readers

SESSION_COOKIE = "medreasoner_session"
LOGIN_PATH = "/medreasoner/login"
_PUBLIC = frozenset({LOGIN_PATH, "/auth/", "/auth/token"})
_NOT_LOGGED_IN = "Log in first: the site's token is missing, wrong or expired."


class LoginRequired(AuthenticationBackend):
    """Lets nobody pass without a token or a session, except to the login itself."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, Reader] | None:
        """Who is calling.

        Raises:
            AuthenticationError: if the request needs a login and carries none.
        """
        reader = self._reader_of(conn)
        if reader is not None:
            return AuthCredentials(["reader"]), reader
        if conn.scope["path"] in _PUBLIC:
            return None
        raise AuthenticationError(_NOT_LOGGED_IN)

    def _reader_of(self, conn: HTTPConnection) -> Reader | None:
        scheme, _, value = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._readers.by_session(value) or self._readers.by_token(value)
        if scheme.lower() == "basic":
            name, token = _basic(value)
            return self._readers.by_token(token, name)
        session = conn.cookies.get(SESSION_COOKIE)
        return None if session is None else self._readers.by_session(session)


def refuse(conn: HTTPConnection, error: AuthenticationError) -> Response:
    """A page is sent to the login, everything else gets a 401 with a sentence."""
    is_page = "text/html" in conn.headers.get("accept", "") and conn.scope["method"] == "GET"
    if is_page:
        query = conn.scope["query_string"].decode("latin-1")
        wanted = conn.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"{LOGIN_PATH}?next={quote(wanted, safe='')}", status_code=303)
    # Not Basic, for which a browser would open a dialog of its own over the viewer.
    return JSONResponse(
        {"detail": str(error)}, status_code=401, headers={"WWW-Authenticate": "Bearer"}
    )


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, token = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, token
