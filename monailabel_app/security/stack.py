# SPDX-License-Identifier: Apache-2.0
"""All of it put around MONAI Label's server."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from medreasoner_infer.errors import MedReasonerError
from monailabel_app.common.http_errors import as_http_error, error_response
from monailabel_app.errors import SettingsError
from monailabel_app.framework import settings as monailabel_settings
from monailabel_app.security.accounts import Accounts
from monailabel_app.security.authentication import LoginRequired, refuse
from monailabel_app.security.cross_site import CrossSiteGuard
from monailabel_app.security.exposure import LOOPBACK_HOSTS
from monailabel_app.security.faults import FaultBoundary
from monailabel_app.security.guesses import GuessLimits, Logins
from monailabel_app.security.headers import SecurityHeaders
from monailabel_app.security.limits import BodyLimits, RateLimits
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.security.token_file import DEFAULT_ROLE

logger = logging.getLogger(__name__)


def secure(server: FastAPI, settings: SecuritySettings) -> FastAPI:
    """Replace the server's middleware before it starts; MONAI Label's own reflects any origin.

    Raises:
        SettingsError: if the token file cannot be used, or MONAI Label's own login is on as well.
    """
    readers = Accounts.of(settings)
    if readers is not None and monailabel_settings.MONAI_LABEL_AUTH_ENABLE:
        raise SettingsError(
            "Both MONAI_LABEL_AUTH_ENABLE and tokens ask for a login; choose one of them."
        )
    if readers is not None:
        _tell_of_default_roles(readers)
    logins = None if readers is None else Logins(readers, GuessLimits(settings.logins_per_minute))
    server.user_middleware[:] = _middleware(settings, readers, logins)
    server.state.readers = readers
    server.state.logins = logins
    server.state.security = settings
    for kind in (MedReasonerError, Exception):
        server.add_exception_handler(kind, _answer_error)
    return server


def _middleware(
    settings: SecuritySettings, readers: Accounts | None, logins: Logins | None
) -> list[Middleware]:
    """The first is the outermost."""
    trusts = {"trusts_proxies": bool(settings.trusted_proxies)}
    stack = [Middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)]
    stack.append(Middleware(FaultBoundary))
    if readers is None and not settings.allow_unauthenticated:
        # A page whose name is made to point here (DNS rebinding) would pass for one of ours.
        hosts = [*LOOPBACK_HOSTS, *settings.allowed_hosts]
        stack.append(Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False))
    if settings.allowed_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.allowed_origins),
                allow_credentials=True,
                allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
            )
        )
    stack.append(Middleware(CrossSiteGuard, allowed_origins=settings.allowed_origins))
    if readers is not None and logins is not None:
        backend = LoginRequired(readers, logins, **trusts)
        stack.append(Middleware(AuthenticationMiddleware, backend=backend, on_error=refuse))
    stack.append(Middleware(RateLimits, requests_per_minute=settings.requests_per_minute, **trusts))
    stack.append(
        Middleware(
            BodyLimits,
            upload_bytes=settings.max_upload_mb << 20,
            other_bytes=settings.max_body_kb << 10,
        )
    )
    return stack


def _tell_of_default_roles(readers: Accounts) -> None:
    count = len(readers.without_a_role)
    if count:
        logger.warning(
            "%d line(s) of the token file give no role; they are taken for %r, who may ask and "
            "label. Write name:token:administrator or name:token:reviewer where more is needed.",
            count,
            DEFAULT_ROLE.value,
        )


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(as_http_error(error, getattr(request.state, "withheld", None)))
