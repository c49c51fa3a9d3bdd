# SPDX-License-Identifier: Apache-2.0
"""Login: ``/auth`` as MONAI Label's client asks for it, and a page for the browser.

3D Slicer asks ``GET /auth/`` whether a login is needed, shows its dialog, posts name and token to
``/auth/token``, and sends the bearer token that it gets with each request.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from monailabel_app import security
from monailabel_app.framework import settings
from monailabel_app.routes.readers import reader_name
from monailabel_app.security.authentication import LOGIN_PATH, SESSION_COOKIE
from monailabel_app.security.readers import Reader, Readers

logger = logging.getLogger(__name__)

VIEWER_PATH = "/ohif/"
_TEMPLATES = Path(security.__file__).parent

router = APIRouter(tags=["Auth"])

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
    reader = _log_in(request, readers, username, password)
    if reader is None:
        raise HTTPException(
            401, "The token was not accepted.", headers={"WWW-Authenticate": "Bearer"}
        )
    return {"access_token": readers.open_session(reader), "token_type": "bearer"}


@router.get("/auth/token/valid", summary="Check If current token is Valid")
async def valid_token(request: Request) -> dict[str, str | None]:
    """Who is logged in; reaching this route already means that the token is valid."""
    return {"username": reader_name(request)}


@router.get(LOGIN_PATH, include_in_schema=False)
async def login_page(request: Request, next: str = VIEWER_PATH, failed: bool = False) -> Response:
    """The login for browsers; it works without scripts."""
    content = {"next": _inside(next), "failed": failed}
    return Jinja2Templates(_TEMPLATES).TemplateResponse(request, "login.html", content)


@router.post(LOGIN_PATH, include_in_schema=False)
async def log_in_browser(
    request: Request, password: Text, username: Text = "", next: Text = VIEWER_PATH
) -> Response:
    """Set the session's cookie and go to the viewer."""
    readers = _readers(request)
    wanted = _inside(next)
    if readers is None:
        return RedirectResponse(wanted, status_code=303)
    reader = _log_in(request, readers, username, password)
    if reader is None:
        url = request.url_for("login_page").include_query_params(next=wanted, failed="1")
        return RedirectResponse(url, status_code=303)
    answer = RedirectResponse(wanted, status_code=303)
    answer.set_cookie(
        SESSION_COOKIE,
        readers.open_session(reader),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/medreasoner/logout", include_in_schema=False)
async def log_out_browser() -> Response:
    """Forget the session's cookie."""
    answer = RedirectResponse(LOGIN_PATH, status_code=303)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
    return answer


def _readers(request: Request) -> Readers | None:
    readers: Readers | None = getattr(request.app.state, "readers", None)
    return readers


def _log_in(request: Request, readers: Readers, name: str, token: str) -> Reader | None:
    reader = readers.by_token(token, name or None)
    if reader is None:
        address = request.client.host if request.client else "unknown"
        logger.warning("A login from %s failed.", address)
    return reader


def _inside(path: str) -> str:
    """``path`` if it is one of the viewer's, so that the login leads to no other site."""
    return path if path.startswith(VIEWER_PATH) and "\\" not in path else VIEWER_PATH
