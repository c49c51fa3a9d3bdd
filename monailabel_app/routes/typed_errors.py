# SPDX-License-Identifier: Apache-2.0
"""A route class that turns every error of its handler into a JSON answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from monailabel_app.http_errors import as_http_error

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def withhold(request: Request, text: str | None) -> None:
    """Keep ``text`` (the question) out of the log should the request fail."""
    request.state.withheld = text


class TypedErrorRoute(APIRoute):
    """Answers as :mod:`monailabel_app.http_errors` says; nothing ends as a plain-text 500."""

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (HTTPException, RequestValidationError):
                raise
            except Exception as error:  # noqa: BLE001 - the boundary: each fault has an answer
                withheld = getattr(request.state, "withheld", None)
                raise as_http_error(error, withheld) from None

        return handle
