# SPDX-License-Identifier: Apache-2.0
"""Login: ``/auth`` as MONAI Label's client asks for it, and a page for the browser.

3D Slicer asks ``GET /auth/`` whether a login is needed, shows its dialog, posts name and token to
``/auth/token``, and sends the bearer token that it gets with each request.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from monailabel_app import security
from monailabel_app.framework import settings
from monailabel_app.security.accounts import Accounts, LoggedIn
from monailabel_app.security.addresses import address_of
from monailabel_app.security.authentication import (
    LOGIN_PATH,
    SESSION_COOKIE,
    retry_after,
    sessions_of,
)
from monailabel_app.security.guesses import Logins, TooManyGuessesError
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.web.routes.callers import logged_in
from monailabel_app.web.routes.typed_errors import TypedErrorRoute

logger = logging.getLogger(__name__)

VIEWER_PATH = "/ohif/"
_TEMPLATES = Path(security.__file__).parent

_MAX_PATH_CHARACTERS = 2048
# What a browser neither drops nor reads as the start of another site.
_PLAIN = re.compile(r"[!#-\[\]-~]*")
_NOT_ACCEPTED = "The token was not accepted; try again."

router = APIRouter(tags=["Auth"], route_class=TypedErrorRoute)

Text = Annotated[str, Form()]


@router.get("/auth/", summary="Check If Auth is Enabled")
async def auth_enabled(request: Request) -> dict[str, Any]:
    """Whether a login is needed."""
    enabled = _readers(request) is not None or settings.MONAI_LABEL_AUTH_ENABLE
    return {"enabled": enabled, "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID}


@router.post("/auth/token", summary="Fetch new access code/token")
async def access_token(request: Request, username: Text, password: Text) -> dict[str, str | None]:
    """A bearer token for a reader's name and token, which OAuth 2 calls password."""
    readers = _readers(request)
    if readers is None:
        return {"access_token": None, "token_type": None}
    try:
        reader = _log_in(request, username, password)
    except TooManyGuessesError as error:
        raise HTTPException(429, str(error), headers=retry_after(error.wait_s)) from None
    if reader is None:
        raise HTTPException(401, _NOT_ACCEPTED, headers={"WWW-Authenticate": "Bearer"})
    return {"access_token": readers.open_session(reader), "token_type": "bearer"}


@router.get("/auth/token/valid", summary="Check If current token is Valid")
async def valid_token(request: Request) -> dict[str, str | None]:
    """Who is logged in; reaching this route already means that the token is valid."""
    reader = logged_in(request)
    return {"username": None if reader is None else reader.display_name}


@router.get(LOGIN_PATH, include_in_schema=False)
async def login_page(request: Request, next: str = VIEWER_PATH) -> Response:
    """The login for browsers; it works without scripts."""
    return _page(request, next)


@router.post(LOGIN_PATH, include_in_schema=False)
async def log_in_browser(
    request: Request, password: Text, username: Text = "", next: Text = VIEWER_PATH
) -> Response:
    """Set the session's cookie and go to the viewer."""
    readers = _readers(request)
    if readers is None:
        return RedirectResponse(inside_viewer(next), status_code=303)
    try:
        reader = _log_in(request, username, password)
    except TooManyGuessesError as error:
        return _page(request, next, str(error), 429, retry_after(error.wait_s))
    if reader is None:
        return _page(request, next, _NOT_ACCEPTED, 401, {"WWW-Authenticate": "Bearer"})
    answer = RedirectResponse(inside_viewer(next), status_code=303)
    answer.set_cookie(
        SESSION_COOKIE,
        readers.open_session(reader),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/medreasoner/logout", include_in_schema=False)
async def log_out_browser(request: Request) -> Response:
    """End the session, and have the browser forget its cookie."""
    readers = _readers(request)
    if readers is not None:
        for session in sessions_of(request):
            readers.end_session(session)
    answer = RedirectResponse(LOGIN_PATH, status_code=303)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
    return answer


def inside_viewer(wanted: str) -> str:
    """``wanted`` if it is a path of the viewer's, so that the login leads to no other site."""
    path, mark, query = wanted.partition("?")
    decoded = unquote(unquote(path))
    is_inside = (
        len(wanted) <= _MAX_PATH_CHARACTERS
        and path.startswith(VIEWER_PATH)
        and _PLAIN.fullmatch(wanted) is not None
        and _PLAIN.fullmatch(decoded) is not None
        and not any(part in decoded for part in ("//", "/.", "?", "#"))
    )
    return f"{path}{mark}{query}" if is_inside else VIEWER_PATH


def _page(
    request: Request,
    next: str,
    problem: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = {"next": inside_viewer(next), "problem": problem}
    page = Jinja2Templates(_TEMPLATES)
    return page.TemplateResponse(request, "login.html", content, status, headers)


def _readers(request: Request) -> Accounts | None:
    readers: Accounts | None = getattr(request.app.state, "readers", None)
    return readers


def _log_in(request: Request, name: str, token: str) -> LoggedIn | None:
    logins: Logins = request.app.state.logins
    settings: SecuritySettings = request.app.state.security
    address = address_of(request.scope, bool(settings.trusted_proxies))
    reader = logins.log_in(address, token, name or None)
    if reader is None:
        logger.warning("A login from %s failed.", address)
    return reader
